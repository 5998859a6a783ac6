"""Hints at what was probably meant."""

import difflib
from collections.abc import Sequence


def closest(name: str, names: Sequence[str]) -> str:
    """A hint at the most similar name, with a space before it; empty where none is similar."""
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {match[0]}?" if match else ""
