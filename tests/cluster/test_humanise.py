import math

import pytest

from strata.cluster.humanise import (
    humanise_accuracy,
    humanise_bytes,
    humanise_flops,
    humanise_loss,
    humanise_seconds,
    sparkline,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.00004, "< 0.1 ms"),
        (0.0025, "2.5 ms"),
        (0.00996, "10 ms"),
        (0.25, "250 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),  # never 1000 ms
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),  # never 60.0 s
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),  # never 60 min
        (3 * 3600 + 12 * 60, "3 h 12 min"),
        (86400 - 29, "1 d 00 h"),  # never 24 h
        (2 * 86400 + 5 * 3600, "2 d 05 h"),
        (-90, "-1 min 30 s"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert humanise_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (999.6, "1.00 kB"),  # never 1000 B
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),  # three digits, not 10.00
        (99_960, "100 kB"),
        (999_600, "1.00 MB"),
        (31_400_000, "31.4 MB"),
        (2.5e12, "2.50 TB"),
        (5e21, "5000 EB"),  # beyond the last unit the number grows
        (math.nan, "–"),
    ],
)
def test_bytes(count: float, text: str) -> None:
    assert humanise_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(512, "512 FLOP"), (1.2e9, "1.20 GFLOP"), (3.14e13, "31.4 TFLOP"), (math.inf, "–")]
)
def test_flops(count: float, text: str) -> None:
    assert humanise_flops(count) == text


@pytest.mark.parametrize(
    ("accuracy", "text"), [(0, "0.00 %"), (0.8125, "81.25 %"), (1, "100.00 %"), (None, "–"), (math.nan, "–")]
)
def test_accuracy(accuracy: float | None, text: str) -> None:
    assert humanise_accuracy(accuracy) == text


@pytest.mark.parametrize(("loss", "text"), [(0.45393, "0.4539"), (99999.0, "99999.0000"), (1.74659e28, "1.747e+28")])
def test_loss(loss: float, text: str) -> None:
    assert humanise_loss(loss) == text


def test_a_sparkline_spans_its_own_range() -> None:
    assert sparkline([0.5, 0.6, 0.7]) == "▁▅█"  # the middle is 3.5 of 7 steps, rounded to the even 4


def test_a_flat_sparkline_is_in_the_middle() -> None:
    assert sparkline([0.3, 0.3, 0.3]) == "▅▅▅"


def test_nothing_to_draw() -> None:
    assert sparkline([]) == ""
    assert sparkline([math.nan]) == ""


def test_a_long_series_is_averaged_into_the_width() -> None:
    assert sparkline([0, 0, 0, 0, 7, 7, 7, 7], width=2) == "▁█"
    # halves of five are 2 and 3 values long: means 0.5 and 3
    assert sparkline([0, 1, 2, 3, 4], width=2) == "▁█"
    assert len(sparkline([float(i % 13) for i in range(1000)], width=40)) == 40
