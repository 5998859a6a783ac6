"""Free text as token ids: lower-cased words, the most frequent of which are numbered. Nothing is learnt or downloaded.

# N texts, L tokens kept of each
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

PADDING = 0
"""Id of what fills a short text up; models leave it out of account."""

UNKNOWN = 1
"""Id of every word outside the vocabulary."""

RESERVED = 2
"""Ids that stand for no word; words are numbered from here."""

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Letters of scripts without blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""

_WORD = re.compile(r"\w+(?:'\w+)*")  # don't is one word
_LETTER = re.compile(f"[{UNSPACED}]")
_WORD_OR_LETTER = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+(?:'(?:(?![{UNSPACED}])\w)+)*")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, lower-cased; an apostrophe within a word belongs to it.

    Of scripts that put no blanks between words each letter is a word.
    """
    return [match[0] for match in _found(text)]


def _found(text: str) -> Iterator[re.Match[str]]:
    pattern = _WORD_OR_LETTER if _LETTER.search(text) else _WORD  # the plain one is faster
    return pattern.finditer(text.lower())


def vocabulary_of(texts: Iterable[str], size: int) -> dict[str, int]:
    """Number the most frequent words of some texts.

    Args:
        texts: where words are counted.
        size: number of ids at most, padding and unknown words included.

    Returns:
        ids ``2..size-1`` by word, in descending order of frequency, equally frequent words in alphabetical order.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked[: size - RESERVED], start=RESERVED)}


def encode(texts: Sequence[str], vocabulary: Mapping[str, int], length: int) -> NDArray[np.int64]:
    """Return the ids of each text's first ``length`` words, filled up at the end: ``(N, L)`` int64."""
    ids = np.full((len(texts), length), PADDING, np.int64)
    for row, text in zip(ids, texts, strict=True):
        # Not all words of the text: most of a long one is thrown away.
        kept = [vocabulary.get(match[0], UNKNOWN) for match in islice(_found(text), length)]
        row[: len(kept)] = kept
    return ids
