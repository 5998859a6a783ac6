"""Links that transfers share: closed forms, and staggered starts worked out by hand."""

import math

import numpy as np
import pytest

from strata.engine.clock.delays import Timing
from strata.engine.clock.devices import Profile
from strata.engine.clock.shared_links import shared_s, side_by_side


def shared(begins, alone, own=math.inf, rate=10.0):
    return shared_s(np.array(begins, float), np.array(alone, float), np.full(len(begins), own), rate).tolist()


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
    assert side_by_side([], [], Profile("server")) == []


def test_all_bytes_pass_and_never_faster_than_the_link():
    rng = np.random.default_rng(0)
    begins, alone = rng.random(40) * 5, rng.random(40)
    ends = begins + shared_s(begins, alone, np.full(40, np.inf), 10.0)
    # With clients that are not slow the link works whenever somebody transfers: a queue that works through the seconds.
    done = 0.0
    for begin, seconds in sorted(zip(begins, alone, strict=True)):
        done = max(done, begin) + seconds
    assert ends.max() == pytest.approx(done)
    assert (ends - begins >= alone - 1e-12).all()


def test_downloads_share_one_direction_and_uploads_the_other():
    # Alone they download 2 s from 0 and 1 s from 1. Until 1 the first has done 1 of 2; then halves: both end at 3.
    # Computing 1 and 0 s they upload from 4 and from 3, alone 1 and 1.5 s. At 4 the second has 0.5 left; then halves:
    # it ends at 5, and the first, with 0.5 left, at 5.5.
    timings = [Timing(0.0, 2.0, 1.0, 1.0), Timing(1.0, 1.0, 0.0, 1.5)]
    server = Profile("server", down_bytes_per_s=5.0, up_bytes_per_s=10.0)
    first, second = side_by_side(timings, [Profile("fast")] * 2, server)
    assert (first.latency_s, first.download_s, first.compute_s, first.upload_s) == pytest.approx((0, 3, 1, 1.5))
    assert (second.latency_s, second.download_s, second.compute_s, second.upload_s) == pytest.approx((1, 2, 0, 2))
