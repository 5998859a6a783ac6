"""One rule for the range of inputs: which values reach a model as -1 and 1, whatever type they are stored in.

# N samples
"""

import math
import re

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.mapped import Mapped, chunks
from strata.engine.data.remarks import Remarks
from strata.engine.errors import DataError

Range = tuple[float, float]

PLAIN: Range = (-1.0, 1.0)
"""The range of inputs that reach a model as they are."""

BITS = (8, 10, 12, 14, 16)
"""How many bits a pixel usually has; the range is then ``0..2^bits - 1``."""

DARK = 32
"""What pixels of 8 bits stay below where 0..255 is hardly meant."""

LARGE = {True: 10.0, False: 200.0}
"""What inputs that reach a model as they are should stay below, for pictures and for others."""

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})", re.I)


def asked_range(text: str) -> Range | None:
    """The range that ``data.range`` asks for; None where it leaves it to the values.

    Raises:
        DataError: if it is neither auto nor none nor LOW..HIGH.
    """
    if text in ("auto", "none"):
        return PLAIN if text == "none" else None
    match = _RANGE.fullmatch(text)
    if match is None or float(match[1]) >= float(match[2]):
        raise DataError(f"data.range={text!r}: expected auto, none, or LOW..HIGH with LOW < HIGH, such as 0..255.")
    return float(match[1]), float(match[2])


def usual_range(low: float, high: float) -> Range:
    """The range that values ``low`` to ``high`` of pictures are of: 0..1, or that of 8 to 16 bits.

    It is :data:`PLAIN` where a value is negative, or where the largest is none of these ranges' (2 to 127).
    """
    if low < 0:
        return PLAIN
    if high <= 1:
        return 0.0, 1.0
    tops = [2.0**bits - 1 for bits in BITS if high <= 2**bits - 1]
    return (0.0, tops[0]) if tops and high > 127 else PLAIN


def range_of(x: NDArray[np.generic], asked: Range | None, where: str) -> tuple[Range, Remarks]:
    """The range of inputs ``(N, ...)`` of numbers, and what to say of it.

    Inputs of uint8 are 0..255. Pictures ``(N, channels, height, width)`` of any other type have the usual range that
    their values are of, so that a picture trains alike as uint8, as 0..255 and as 0..1; what is no picture is
    :data:`PLAIN`.

    Args:
        x: the inputs.
        asked: the range that ``data.range`` asks for, or None.
        where: the source, for errors.

    Raises:
        DataError: if values lie outside the range that is asked for.
    """
    low, high = _extremes(x)
    picture = x.ndim == 4
    if asked is not None:
        if asked != PLAIN and (low < asked[0] or high > asked[1]):
            raise DataError(
                f"{where}: inputs lie in {low:g}..{high:g}, outside data.range={asked[0]:g}..{asked[1]:g}. "
                f"Set data.range={low:g}..{high:g}, or none to leave them as they are."
            )
        return asked, _said(x, low, high, asked)
    found = (0.0, 255.0) if x.dtype == np.uint8 else usual_range(low, high) if picture else PLAIN
    said = _said(x, low, high, found)
    if x.dtype == np.uint8 and high < DARK:
        return found, said.warned(
            f"{where}: inputs of uint8 lie in {low:g}..{high:g} and are read as 0..255, so all of them come near -1. "
            f"Set data.range={low:g}..{max(high, low + 1):g} to spread them, or data.range=0..255 if that is meant."
        )
    if found == PLAIN and max(-low, high) > LARGE[picture]:
        return found, said.warned(
            f"{where}: inputs lie in {low:g}..{high:g} and reach the model as they are, where about -1..1 is usual. "
            f"Set data.range={low:g}..{high:g} to map them to that, or data.range=none if this is meant."
        )
    return found, said


def _said(x: NDArray[np.generic], low: float, high: float, found: Range) -> Remarks:
    shape = "×".join(map(str, x.shape[1:]))
    becomes = "as they are" if found == PLAIN else f"{found[0]:g} becomes -1 and {found[1]:g} becomes 1"
    return Remarks().noted(f"inputs: {x.dtype} {shape}, values {low:g}..{high:g}, {becomes} (data.range)")


def _extremes(x: NDArray[np.generic]) -> Range:
    """The smallest and the largest input; of uint8 on the disk, whose range is known, among the first of them."""
    low, high = math.inf, -math.inf
    for part in chunks(x):
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        if x.dtype == np.uint8 and isinstance(x, Mapped):
            break
    return low, high
