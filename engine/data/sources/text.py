"""Free text as token ids: lower-cased words, the most frequent of which are numbered. Nothing is learnt or downloaded.

# N texts, L tokens kept of each
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.capacity import require_memory
from strata.engine.data.config import DataConfig
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.raw import Raw
from strata.engine.errors import DataError

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


def words_of(texts: Sequence[str], train: NDArray[np.bool_], config: DataConfig, where: str) -> dict[str, int]:
    """The vocabulary of those texts for which ``train`` ``(N,)`` is true, of ``data.vocabulary`` ids at most.

    Raises:
        DataError: where there is no word.
    """
    ids = vocabulary_of((text for text, is_train in zip(texts, train, strict=True) if is_train), config.vocabulary)
    if not ids:
        raise DataError(f"{where}: there is no word in column {config.text!r}. Set data.text to a column of text.")
    return ids


def encode(texts: Sequence[str], vocabulary: Mapping[str, int], length: int) -> NDArray[np.int64]:
    """Return the ids of each text's first ``length`` words, filled up at the end: ``(N, L)`` int64."""
    require_memory(8 * len(texts) * length, f"{len(texts):,} texts of data.length={length} words", "Lower it.")
    ids = np.full((len(texts), length), PADDING, np.int64)
    for row, text in zip(ids, texts, strict=True):
        # Not all words of the text: most of a long one is thrown away.
        kept = [vocabulary.get(match[0], UNKNOWN) for match in islice(_found(text), length)]
        row[: len(kept)] = kept
    return ids


def said_of_words(texts: Sequence[str], vocabulary: Mapping[str, int], ids: NDArray[np.int64]) -> Remarks:
    """What became of N texts as ``ids`` ``(N, L)``: how many words are told apart, what a word is, how many are cut."""
    length = ids.shape[1]
    full = (texts[row] for row in np.flatnonzero(ids[:, -1] != PADDING).tolist())
    cut = sum(next(islice(_found(text), length, None), None) is not None for text in full)
    letters = ", a letter of a script without blanks being one" if any(map(_LETTER.search, vocabulary)) else ""
    shortened = f"; {cut} of {len(texts)} texts are cut to {length} words (data.length)" if cut else ""
    return Remarks().noted(f"text: {len(vocabulary)} words are told apart (data.vocabulary){letters}{shortened}")


def next_tokens(
    texts: Sequence[str],
    vocabulary: Mapping[str, int],
    of_texts: tuple[NDArray[np.bool_] | None, NDArray[np.generic] | None],
    config: DataConfig,
    where: str,
    remarks: Remarks,
) -> Raw:
    """Each word of some texts but their first as a target, with the ``data.length`` words before it as its input.

    Args:
        texts: N of them.
        vocabulary: ids by word.
        of_texts: flags of the published test split, and names of clients, ``(N,)`` each, or None.
        config: the ``data`` part of the configuration.
        where: the source, for errors.
        remarks: what was said of the texts so far.

    Raises:
        DataError: where no text has two words.
    """
    x, y, text_of = continuations(texts, vocabulary, config.length)
    if not len(x):
        raise DataError(f"{where}: no text in column {config.text!r} has two words. Set data.text to a column of text.")
    test, natural = (None if one is None else one[text_of] for one in of_texts)
    said = remarks.noted(f"{len(x)} words of {len(texts)} texts are targets (data.task=next_token)")
    return Raw(x, y, test, natural, vocabulary=len(vocabulary) + RESERVED, remarks=said)  # type: ignore[arg-type]


def continuations(
    texts: Sequence[str], vocabulary: Mapping[str, int], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Each word of some texts but their first, and what comes before it.

    Returns:
        x ``(N, L)``: ids of the ``length`` words before each, or of as many as there are, filled up at the end; y
        ``(N,)``: its own id; and the number of the text that it is of ``(N,)``.
    """
    ids = [[vocabulary.get(match[0], UNKNOWN) for match in _found(text)] for text in texts]
    counts = np.array([max(0, len(own) - 1) for own in ids], np.int64)
    targets = int(counts.sum())
    require_memory(8 * targets * length, f"{targets:,} words with data.length={length} words before each", "Lower it.")
    x, y = np.full((targets, length), PADDING, np.int64), np.zeros(targets, np.int64)
    row = 0
    for own in ids:
        for place in range(1, len(own)):
            before = own[max(0, place - length) : place]
            x[row, : len(before)], y[row] = before, own[place]
            row += 1
    return x, y, np.repeat(np.arange(len(texts)), counts)
