"""Numbers as people read them: seconds, bytes, FLOPs, accuracies, and a curve in one line of text."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports torch, and help should be there at once
    from strata.engine.evaluation.measures import Measure

BARS = "▁▂▃▄▅▆▇█"
NOTHING = "–"


def humanise_seconds(seconds: float) -> str:
    """``250 ms``, ``12.3 s``, ``3 min 05 s``, ``3 h 12 min``, ``2 d 05 h``; ``–`` for what is no number."""
    if math.isnan(seconds):
        return NOTHING
    if seconds < 0:
        return f"-{humanise_seconds(-seconds)}"
    if math.isinf(seconds):
        return "∞"
    if seconds < 0.9995:
        return _milliseconds(seconds * 1000)
    if seconds < 59.95:  # from here on one decimal would read 60.0 s
        return f"{seconds:.1f} s"
    if (whole := round(seconds)) < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if (minutes := round(seconds / 60)) < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02} h"


def _milliseconds(milliseconds: float) -> str:
    if milliseconds == 0:
        return "0 s"
    if milliseconds < 0.1:
        return "< 0.1 ms"
    return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 else f"{milliseconds:.1f} ms"


def humanise_loss(loss: float) -> str:
    """Four decimals, ``0.4539``; where it is huge, as of a run that diverges, four digits and a power of ten."""
    return f"{loss:.4f}" if abs(loss) < 1e5 else f"{loss:.3e}"


def humanise_bytes(count: float) -> str:
    """Three digits and a decimal unit, as networks are measured: ``999 B``, ``1.00 kB``, ``31.4 MB``."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB", "PB", "EB"))


def humanise_flops(count: float) -> str:
    """Three digits and a unit: ``512 FLOP``, ``1.20 GFLOP``, ``31.4 TFLOP``."""
    return _scaled(count, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def _scaled(value: float, units: Sequence[str]) -> str:
    if not math.isfinite(value):
        return NOTHING
    power = 0
    while abs(value) >= 999.5 and power < len(units) - 1:  # 999.5 would be written as 1000
        value, power = value / 1000, power + 1
    decimals = 0 if power == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{decimals}f} {units[power]}"


def humanise_accuracy(accuracy: float | None) -> str:
    """Write an accuracy (0..1) in per cent with two decimals; ``–`` where there is none."""
    if accuracy is None or not math.isfinite(accuracy):
        return NOTHING
    return f"{100 * accuracy:.2f} %"


def humanise_measure(measure: "Measure", value: float | None) -> str:
    """Write a value of a measure: a share in per cent, others with four digits; ``–`` where there is none."""
    if measure.is_share or value is None or not math.isfinite(value):
        return humanise_accuracy(value)
    return f"{value:.4g}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Draw a curve in one line, from its minimum to its maximum; longer series are averaged into ``width`` steps."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    edges = [len(finite) * i // width for i in range(width + 1)] if len(finite) > width else range(len(finite) + 1)
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return BARS[len(BARS) // 2] * len(means)
    return "".join(BARS[round((mean - low) / (high - low) * (len(BARS) - 1))] for mean in means)
