"""Links that transfers share: closed forms, and staggered starts worked out by hand."""

import math

import numpy as np
import pytest

from strata.engine.clock.delays import Timing
from strata.engine.clock.devices import Profile
from strata.engine.clock.shared_links import Going, SharedLink, gone_on, shared_s


def shared(begins, alone, own=math.inf, rate=10.0):
    return stopped(begins, alone, [math.inf] * len(begins), own, rate)[0]


def stopped(begins, alone, stops, own=math.inf, rate=10.0):
    """Seconds that transfers take, and what is left of them."""
    columns = [np.array(column, float) for column in (begins, alone, np.full(len(begins), own))]
    return [part.tolist() for part in shared_s(*columns, rate, np.array(stops, float))]


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_equal_transfers_that_begin_together_take_as_many_times_as_long_as_there_are(n):
    assert shared([3.0] * n, [2.0] * n) == pytest.approx([2.0 * n] * n)


def test_staggered_starts_by_hand():
    # Alone 4, 1 and 1 s, from 0, 2 and 7 s. Until 2 the first has done 2 of its 4. From 2 both go at half speed: the
    # second ends at 4, and the first has then done 3. It ends at 5. The third has the link to itself from 7.
    assert shared([0.0, 2.0, 7.0], [4.0, 1.0, 1.0]) == pytest.approx([5.0, 2.0, 1.0])
    # Three: A 3 s from 0, B 3 s from 1, C 0.5 s from 2. At 1 A has 2 left, at 2 A has 1.5 and B 2.5; at thirds C ends
    # at 3.5, A has 1 and B 2 left; at halves A ends at 5.5, B has 1 left, and ends at 6.5.
    assert shared([0.0, 1.0, 2.0], [3.0, 3.0, 0.5]) == pytest.approx([5.5, 5.5, 1.5])


def test_a_client_that_is_slow_itself_feels_others_only_where_its_part_is_less():
    # The link does 10, the clients 4: two are not in each other's way; three get 10/3 each, 1.2 times less.
    assert shared([0.0, 0.0], [2.0, 2.0], own=4.0) == [2.0, 2.0]
    assert shared([0.0] * 3, [2.0] * 3, own=4.0) == pytest.approx([2.4] * 3)


def test_a_link_without_a_limit_and_transfers_of_nothing_take_what_they_took():
    assert shared([0.0, 0.0], [2.0, 3.0], rate=math.inf) == [2.0, 3.0]
    assert shared([0.0, 0.0, 1.0], [0.0, 0.3, 0.0]) == [0.0, 0.3, 0.0]
    assert gone_on([], [], Profile("server"), np.array([])) == []


def test_all_bytes_pass_and_never_faster_than_the_link():
    rng = np.random.default_rng(0)
    begins, alone = rng.random(40) * 5, rng.random(40)
    ends = begins + shared(begins, alone)
    # With clients that are not slow the link works whenever somebody transfers: a queue that works through the seconds.
    done = 0.0
    for begin, seconds in sorted(zip(begins, alone, strict=True)):
        done = max(done, begin) + seconds
    assert ends.max() == pytest.approx(done)
    assert (ends - begins >= alone - 1e-12).all()


SERVER = Profile("server", down_bytes_per_s=5.0, up_bytes_per_s=10.0)


def test_downloads_share_one_direction_and_uploads_the_other():
    # Alone they download 2 s from 0 and 1 s from 1. Until 1 the first has done 1 of 2; then halves: both end at 3.
    # Computing 1 and 0 s they upload from 4 and from 3, alone 1 and 1.5 s. At 4 the second has 0.5 left; then halves:
    # it ends at 5, and the first, with 0.5 left, at 5.5.
    going = [Going.begun(Timing(0.0, 2.0, 1.0, 1.0)), Going.begun(Timing(1.0, 1.0, 0.0, 1.5))]
    ended = gone_on(going, [Profile("fast")] * 2, SERVER, np.full(2, np.inf))
    first, second = (one.spent for one in ended)
    assert all(one.is_over for one in ended)
    assert (first.latency_s, first.download_s, first.compute_s, first.upload_s) == pytest.approx((0, 3, 1, 1.5))
    assert (second.latency_s, second.download_s, second.compute_s, second.upload_s) == pytest.approx((1, 2, 0, 2))


def test_a_transfer_that_is_stopped_leaves_the_link_to_the_others():
    # Alone 4 s each, from 0. Stopped at 3 s at half speed, the first has done 1.5 s; from then on the second, with
    # 2.5 s left, is alone: it ends at 5.5.
    assert stopped([0.0, 0.0], [4.0, 4.0], [3.0, math.inf]) == [[3.0, 5.5], [2.5, 0.0]]
    # One that is stopped before it begins, or at its very end.
    assert stopped([2.0, 0.0], [1.0, 3.0], [1.0, 3.0]) == [[0.0, 3.0], [1.0, 0.0]]
    assert stopped([1.0, 2.0], [5.0, 1.0], [4.0, 1.5], rate=math.inf) == [[3.0, 0.0], [2.0, 1.0]]


@pytest.mark.parametrize(
    ("stop", "spent", "left"),
    [
        (0.5, (0.5, 0, 0, 0), (0.5, 2, 3, 1)),
        (2.0, (1, 1, 0, 0), (0, 1, 3, 1)),
        (3.0, (1, 2, 0, 0), (0, 0, 3, 1)),
        (5.0, (1, 2, 2, 0), (0, 0, 1, 1)),
        (6.5, (1, 2, 3, 0.5), (0, 0, 0, 0.5)),
        (7.0, (1, 2, 3, 1), (0, 0, 0, 0)),
    ],
)
def test_a_call_is_stopped_in_the_phase_that_it_is_in(stop, spent, left):
    one = Going.begun(Timing(1.0, 2.0, 3.0, 1.0))
    (there,) = gone_on([one], [Profile("fast")], SERVER, np.array([stop]))
    assert there == Going(one.whole, Timing(*map(float, spent)), Timing(*map(float, left)))
    assert there.is_over == (stop == 7.0)
    (ended,) = gone_on([there], [Profile("fast")], SERVER, np.array([math.inf]))
    assert ended.spent == one.whole


def test_in_pieces_calls_go_on_as_at_once():
    rng = np.random.default_rng(4)
    profiles = [Profile("any", down_bytes_per_s=d, up_bytes_per_s=u) for d, u in rng.uniform(1, 12, (9, 2)).tolist()]
    begun = [Going.begun(Timing(*phases)) for phases in rng.random((9, 4)).tolist()]
    at_once = gone_on(begun, profiles, SERVER, np.full(9, np.inf))
    going = begun
    for seconds in (0.3, 0.01, 0.9, 1.7):
        going = gone_on(going, profiles, SERVER, np.full(9, seconds))
    assert 0 < sum(one.is_over for one in going) < 9
    for one, other in zip(gone_on(going, profiles, SERVER, np.full(9, np.inf)), at_once, strict=True):
        np.testing.assert_allclose(one.spent, other.spent, rtol=1e-9)


def test_a_phase_that_turns_out_longer_is_so_from_where_the_call_is():
    one = Going(Timing(1.0, 2.0, 3.0, 1.0), Timing(1.0, 2.5, 1.0, 0.0), Timing(0.0, 0.0, 2.0, 1.0))
    longer = one.corrected(Timing(1.0, 2.0, 4.0, 5.0))
    assert longer == Going(Timing(1.0, 2.0, 4.0, 5.0), one.spent, Timing(0.0, 0.0, 3.0, 5.0))


def test_what_is_foreseen_of_a_link_is_for_each_servers_clients():
    profiles = [Profile("fast"), Profile("slow", up_bytes_per_s=4.0), Profile("fast")]
    link = SharedLink(profiles, SERVER, np.array([1, 0, 1]))
    down, up = link.s_per_byte([0, 1, 2])
    assert (down.tolist(), up.tolist()) == ([1 / 10, 1 / 10, 1 / 10], [1 / 5, 1 / 4, 1 / 5])
    phases = np.array([[0.0, 1.0, 2.0, 3.0]] * 3)
    # Two download, and later upload, at half speed; the one of the other server is alone.
    assert link.total_s([0, 1, 2], phases).tolist() == [10.0, 6.0, 10.0]
    assert link.total_s([0, 1], phases[:2]).tolist() == [6.0, 6.0]
