"""Schedules: who is waited for, and who counts, whatever the children are."""

import pytest

from strata.engine.errors import ConfigError, TrainingError
from strata.engine.rounds.pools import Failure
from strata.engine.rounds.schedules import Deadline, Moment, Synchronous, Waiting
from tests.helpers.children import Reply, Toys


def step(schedule, *replies):
    return schedule.step(Toys(*replies), ["before"], Moment(1, 1))


def test_a_synchronous_server_waits_for_its_slowest_child():
    made = step(Synchronous(), Reply(0, 2.0), Reply(1, 5.0), Reply(2, 3.0))
    assert made.seconds == 5.0
    assert [up.message for up in made.ups] == [f"upload {child} of round 1" for child in range(3)]
    assert made.state == ["before", 0, 1, 2]


def test_a_deadline_drops_and_marks_what_is_late_and_ends_the_wait():
    made = step(Deadline(3.0), Reply(0, 2.0), Reply(1, 5.0), Reply(2, 3.0))
    assert made.seconds == 3.0
    assert [reply.is_late for reply in made.replies] == [False, True, False]
    assert [reply.sender for reply in made.arrivals] == [0, 2]
    assert (made.state, made.counted) == (["before", 0, 2], 2)


def test_a_lost_child_is_waited_for_until_it_is_lost_and_does_not_count():
    made = step(Synchronous(), Reply(0, 2.0), Reply(1, 4.0, arrived=False))
    assert made.seconds == 4.0
    assert [up.sender for up in made.ups] == [0]


@pytest.mark.parametrize(
    "replies", [(), (Reply(0, 2.0, arrived=False),), (Reply(0, 9.0),)], ids=["none", "lost", "late"]
)
def test_where_nothing_counts_the_state_stays(replies):
    made = step(Deadline(3.0), *replies)
    assert (made.state, made.counted) == (["before"], 0)
    assert made.seconds == max([0.0, *(min(reply.seconds, 3.0) for reply in replies)])


def test_a_failure_among_the_children_is_raised():
    class Broken(Toys):
        def results(self, tickets):
            yield self.replies[0]
            yield Failure(TrainingError("client 1: loss is nan"))

    with pytest.raises(TrainingError, match="client 1: loss is nan"):
        Synchronous().step(Broken(Reply(0, 1.0), Reply(1, 1.0)), [], Moment(1, 1))


class Fastest(Waiting):
    """Waits for the faster half."""

    def closes_s(self, seconds, moment):
        return sorted(seconds)[(len(seconds) - 1) // 2]


def test_a_schedule_of_ones_own_says_when_the_server_closes():
    made = step(Fastest(), Reply(0, 2.0), Reply(1, 5.0), Reply(2, 3.0), Reply(3, 3.5))
    assert made.seconds == 3.0
    assert [reply.sender for reply in made.arrivals] == [0, 2]
    assert step(Waiting(), Reply(0, 2.0), Reply(1, 5.0)).seconds == 5.0


def test_a_schedule_is_not_asked_how_long_to_wait_for_nobody():
    made = step(Fastest())
    assert (made.seconds, list(made.replies)) == (0.0, [])


def test_a_schedule_that_raises_is_named():
    class Second(Waiting):
        def closes_s(self, seconds, moment):
            return sorted(seconds)[1]

    with pytest.raises(ConfigError, match=r"round 1: Second.closes_s raised IndexError: .* the seconds of 1 children"):
        step(Second(), Reply(0, 2.0))


@pytest.mark.parametrize("closes", [-1.0, float("nan"), "soon", True, None])
def test_a_schedule_that_gives_no_seconds_is_named(closes):
    class Odd(Waiting):
        def closes_s(self, seconds, moment):
            return closes

    with pytest.raises(ConfigError, match=r"round 1: Odd.closes_s gave .*; expected virtual seconds"):
        step(Odd(), Reply(0, 2.0))
