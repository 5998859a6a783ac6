"""When clients are there: against looking through the intervals one by one, at every instant of a grid."""

import math

import numpy as np
import pytest

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.presence import read_presence
from strata.engine.errors import ConfigError, DataError
from strata.engine.options import check

INTERVALS = {3: [(2.0, 4.0), (6.0, 7.5)], 5: [(0.0, 1.0), (7.0, 8.0)], 9: [(5.0, 6.0), (1.5, 2.0), (6.0, 6.5)]}
"""By client of the file; the last one's are not in order, and two of them touch."""


def written(folder, lines, header="client,on_s,off_s"):
    path = folder / "presence.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf8")
    return str(path)


def trace(folder, intervals=INTERVALS):
    lines = [f"{client}, {on}, {off}" for client, every in intervals.items() for on, off in every]
    return written(folder, lines[::-1])


def is_on(place, now, period):
    """Client ``place mod 3`` of the file, clients in ascending order."""
    local = now % period if period else now
    return any(on <= local < off for on, off in INTERVALS[(3, 5, 9)[place % 3]])


@pytest.mark.parametrize("period", [0, 8, 10])
def test_who_is_there_goes_off_and_comes_on_when_the_intervals_say(tmp_path, period):
    presence, grid = read_presence(trace(tmp_path), period), 0.25  # of which all instants are multiples
    clients, ends = [0, 4, 8, 2, 1], [0, 0, 0]
    for tick in range(100):
        now = tick * grid
        there = [is_on(client, now, period) for client in clients]
        assert presence.here(clients, now).tolist() == there
        for client in (0, 1, 2):
            ahead = (k for k in range(200) if not is_on(client, now + k * grid, period))
            assert presence.off_after_s(client, now) == next(ahead) * grid
            ends[client] += presence.off_after_s(client, now) > 0
        for some in ([0], [1], [5], [0, 1], [0, 1, 2]):
            ahead = (k for k in range(200) if any(is_on(client, now + k * grid, period) for client in some))
            assert presence.wait_s(some, now) == next(ahead, 0) * grid
    assert min(ends) > 5


def test_off_is_for_good_or_never(tmp_path):
    once = read_presence(written(tmp_path, ["0,1,inf", "1,0,2"]), 0)
    assert once.off_after_s(0, 1e9) == math.inf
    assert (once.off_after_s(1, 2.0), once.wait_s([1], 2.0)) == (0.0, 0.0)
    assert once.here([0, 1], 5.0).tolist() == [True, False]
    whole = read_presence(written(tmp_path, ["0,0,6"]), 6)
    assert whole.off_after_s(0, 17.0) == math.inf


def test_the_end_of_a_wait_is_there_whatever_the_clock_rounds(tmp_path):
    # Instants that have no exact sum: where the clock lands just before one, it waits on, and does not stand still.
    presence = read_presence(written(tmp_path, ["0,0.1,0.3"]), 0.7)
    rng, now = np.random.default_rng(0), 0.0
    for _ in range(3000):
        wait = presence.wait_s([0], now)
        assert presence.here([0], now + wait).all()
        now += wait
        before = now
        now += presence.off_after_s(0, now) * rng.choice([1.0, 0.5])
        assert now > before
    assert now > 100


def test_a_hundred_thousand_clients_are_columns(tmp_path):
    # Client c is on in [c, c + 1): at second 7.5 it is the eighth of each thousand, the trace having a thousand.
    presence = read_presence(written(tmp_path, [f"{c},{c},{c + 1}" for c in range(1000)]), 0)
    there = presence.here(range(100_000), 7.5)
    assert np.flatnonzero(there).tolist() == list(range(7, 100_000, 1000))
    assert [len(presence.starts), presence.on_s.nbytes] == [1001, 8000]


@pytest.mark.parametrize(
    ("lines", "period", "said"),
    [
        (["0,0,1", "0,2"], 0, r"line 3: expected 3 cells \(client, on_s, off_s\), found 2"),
        (["x,0,1"], 0, "line 2: client is 'x', expected a whole number"),
        (["0,zero,1"], 0, "line 2: on_s is 'zero', expected virtual seconds"),
        (["0,0,nan"], 0, "line 2: off_s is 'nan', expected virtual seconds"),
        (["0,0,1", "0,3,3"], 0, "line 3: on_s is 3 and off_s 3, expected 0 ≤ on_s < off_s"),
        (["0,-1,3"], 0, "line 2: on_s is -1 and off_s 3, expected 0 ≤ on_s < off_s"),
        (["0,inf,inf"], 0, "line 2: on_s is inf and off_s inf, expected"),
        (["0,0,9"], 8, r"line 2: off_s is 9, expected at most delays\.availability_period_s=8"),
        (["7,5,6", "1,5,6", "7,2,5.5"], 0, "line 4: client 7 is on already, by line 2; expected intervals that do not"),
        ([], 0, "expected at least one interval below the header, found none"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, lines, period, said):
    with pytest.raises(DataError, match=said):
        read_presence(written(tmp_path, lines), period)


def test_a_wrong_header_a_missing_file_and_a_period_of_nothing_are_refused(tmp_path):
    with pytest.raises(DataError, match="line 1: expected the columns client, on_s, off_s; missing: off_s"):
        read_presence(written(tmp_path, [], "client,on_s"), 0)
    with pytest.raises(DataError, match=r"delays\.availability_trace=.*cannot be read"):
        read_presence(str(tmp_path / "none.csv"), 0)
    with pytest.raises(ConfigError, match=r"delays\.availability_period_s=5: there is nothing that repeats"):
        check(DelayConfig(availability_period_s=5), "delays.")


def test_it_is_known_by_its_instants(tmp_path):
    def told(lines, period=0):
        return read_presence(written(tmp_path, lines), period).fingerprint

    assert told(["3,0,1", "3,1,2"]) == told(["0,0,2"])
    assert len({told(["0,0,2"]), told(["0,0,3"]), told(["0,1,2"]), told(["0,0,2"], 5), told(["0,0,2", "1,0,2"])}) == 5
