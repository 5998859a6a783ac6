"""The buffered schedule: events in the order of virtual time, whatever the children are."""

from dataclasses import replace

import pytest

from strata.engine.errors import TrainingError
from strata.engine.rounds.buffered import Buffered, schedule_of
from strata.engine.rounds.pools import Failure
from strata.engine.rounds.schedules import Deadline, Moment, Synchronous
from strata.engine.rounds.world import TierPlan
from tests.helpers.children import Call, Reply, Toys


def steps(schedule, toys, rounds, state=()):
    """The steps of some rounds, one after the other."""
    made, state = [], list(state)
    for round in range(1, rounds + 1):
        made.append(schedule.step(toys, state, Moment(round, 1)))
        state = made[-1].state
    return made


def senders(step):
    return [up.sender for up in step.ups]


def test_the_server_goes_on_with_the_first_upload_and_the_others_stay_on_their_way():
    toys = Toys(Reply(0, 5.0), Reply(1, 2.0), Reply(2, 3.0))
    first, second, third, fourth = steps(Buffered(1), toys, 4)
    # Child 1 comes at 2, 4 and 6 s, child 2 at 3 s, child 0 at 5 s: in this order, each from the end of the one before.
    assert [senders(step) for step in (first, second, third, fourth)] == [[1], [2], [1], [0]]
    assert [step.seconds for step in (first, second, third, fourth)] == [2.0, 1.0, 1.0, 1.0]
    assert toys.called == [[0, 1, 2], [1], [2], [1]]
    assert [step.gap.in_flight for step in (first, fourth)] == [2, 2]
    assert fourth.state == [1, 2, 1, 0]
    assert [reply.sender for reply in first.replies] == [1]
    assert toys.settled == [[1], [2], [1], [0]]


def test_staleness_counts_the_steps_since_the_sender_was_called():
    toys = Toys(Reply(0, 5.0), Reply(1, 2.0), Reply(2, 3.0))
    made = steps(Buffered(1), toys, 4)
    # Child 2 was called before the first step, child 1 anew before the second, child 0 before the first.
    assert [step.ups[0].staleness for step in made] == [0, 1, 1, 3]
    assert [dict(step.gap.staleness) for step in made] == [{0: 1}, {1: 1}, {1: 1}, {3: 1}]


def test_of_two_that_come_at_the_same_instant_the_lower_id_is_first_and_the_other_is_there_already():
    first, second = steps(Buffered(1), Toys(Reply(3, 2.0), Reply(1, 2.0), Reply(2, 9.0)), 2)
    assert (senders(first), senders(second)) == ([1], [3])
    assert (first.seconds, second.seconds) == (2.0, 0.0)


def test_a_buffer_is_ordered_by_sender_and_ends_with_its_last_upload():
    (step,) = steps(Buffered(2), Toys(Reply(0, 4.0), Reply(1, 9.0), Reply(2, 3.0)), 1)
    assert (senders(step), step.seconds) == ([0, 2], 4.0)
    assert step.gap.idle_s == 1.0  # child 2 waited from 3 to 4 s


def test_where_the_buffer_holds_all_that_is_called_the_step_is_a_synchronous_one():
    replies = Reply(0, 0.1), Reply(1, 0.7, arrived=False), Reply(2, 0.3)
    for ours, theirs in zip(
        steps(Buffered(3), Toys(*replies), 3), steps(Synchronous(), Toys(*replies), 3), strict=True
    ):
        assert replace(ours, gap=None) == theirs
        assert ours.seconds == 0.7  # to the bit, in each round


def test_a_lost_child_fills_no_place_and_what_is_left_is_not_waited_for_in_vain():
    toys = Toys(Reply(0, 1.0, arrived=False), Reply(1, 2.0), Reply(2, 3.0, arrived=False))
    (step,) = steps(Buffered(2), toys, 1)
    assert (senders(step), step.seconds, step.gap.in_flight) == ([1], 3.0, 0)
    assert [reply.sender for reply in step.replies] == [0, 1, 2]
    assert toys.settled == [[1]]  # of the lost ones nothing was made
    assert step.gap.idle_s == 1.0  # of child 1; a lost one does not wait


def test_with_nobody_there_no_time_passes_and_nothing_changes():
    schedule = Buffered(2)
    step = schedule.step(Toys(), ["before"], Moment(1, 1))
    assert (step.state, step.counted, step.seconds) == (["before"], 0, 0.0)
    assert len(schedule.away) == 0


def test_what_is_too_stale_is_dropped_marked_and_counted_and_fills_no_place():
    toys = Toys(Reply(0, 2.5), Reply(1, 1.0), concurrency=2)
    made = steps(Buffered(1, max_staleness=1), toys, 3)
    # Child 0, called before the first step, comes at 2.5 s, after two steps; child 1 makes the third one at 3 s.
    assert [senders(step) for step in made] == [[1], [1], [1]]
    assert [step.gap.stale for step in made] == [0, 0, 1]
    assert [(reply.sender, reply.is_stale) for reply in made[2].replies] == [(0, True), (1, False)]
    assert made[2].gap.staleness == {0: 1}
    assert made[2].seconds == 1.0
    assert toys.settled[2] == [0, 1]


def test_a_bound_that_is_just_kept_drops_nothing():
    made = steps(Buffered(1, max_staleness=2), Toys(Reply(0, 2.5), Reply(1, 1.0)), 3)
    assert senders(made[2]) == [0]
    assert made[2].gap.stale == 0


def test_more_concurrency_than_children_calls_all_of_them():
    toys = Toys(Reply(0, 1.0), Reply(1, 2.0), concurrency=9)
    (step,) = steps(Buffered(9), toys, 1)
    assert toys.called == [[0, 1]]
    assert senders(step) == [0, 1]


def test_a_call_that_turns_out_longer_than_its_price_comes_at_its_real_time():
    toys = Toys(Reply(0, 5.0, price_s=1.0), Reply(1, 2.0))
    first, second = steps(Buffered(1), toys, 2)
    assert (senders(first), first.seconds) == ([1], 2.0)
    assert (senders(second), second.seconds) == ([1], 2.0)  # at 4 s
    assert toys.made == [(0, 1), (1, 1), (1, 2)]


def test_time_that_passes_beside_the_steps_lets_calls_go_on():
    schedule, toys = Buffered(1), Toys(Reply(0, 5.0), Reply(1, 2.0))
    schedule.step(toys, [], Moment(1, 1))
    schedule.passed(2.5)
    second = schedule.step(toys, [], Moment(2, 1))
    # Child 0 comes 5 − 2 − 2.5 = 0.5 s after the step begins.
    assert (senders(second), second.seconds) == ([0], 0.5)
    schedule.passed(9.0)
    third = schedule.step(toys, [], Moment(3, 1))
    assert (senders(third), third.seconds) == ([1], 0.0)  # it was there before the step began
    assert third.gap.idle_s == 9.0 - (2.0 - 0.5)


def test_what_is_in_flight_is_called_again_after_a_restore_and_ends_when_it_would_have():
    def played(schedule, toys, state, rounds):
        made = []
        for round in rounds:
            made.append(schedule.step(toys, state, Moment(round, 1)))
            state = made[-1].state
        return [(step.state, step.seconds, step.gap) for step in made]

    replies = Reply(0, 5.3), Reply(1, 2.1), Reply(2, 3.7, price_s=1.0), Reply(3, 6.1)
    schedule, toys = Buffered(1), Toys(*replies)
    before = played(schedule, toys, [], [1, 2])
    aloft = schedule.capture()
    expected = played(schedule, toys, before[-1][0], range(3, 9))
    other, again = Buffered(1), Toys(*replies)
    other.restore(aloft, lambda one, down: Call(one.receiver, one.round, one.team_round, one.assignment, down))
    assert set(other.away) == {one.receiver for one in aloft.calls} == {0, 1, 3}
    assert played(other, again, before[-1][0], range(3, 9)) == expected
    assert again.made[:4] == [(0, 1), (1, 2), (3, 1), (2, 3)]  # as they were called, before those of the third round
    assert list(aloft.messages) == [(), (1,)]  # two were sent the first state


def test_a_failure_is_raised_when_its_turn_comes():
    class Broken(Toys):
        def results(self, tickets):
            yield Failure(TrainingError("client 1: loss is nan")) if tickets == [1] else self.replies[tickets[0]]

    toys, schedule = Broken(Reply(0, 1.0), Reply(1, 3.0)), Buffered(1)
    assert senders(schedule.step(toys, [], Moment(1, 1))) == [0]
    assert senders(schedule.step(toys, [], Moment(2, 1))) == [0]
    with pytest.raises(TrainingError, match="client 1: loss is nan"):
        schedule.step(Broken(Reply(1, 3.0)), [], Moment(3, 1))


def test_a_plan_names_its_schedule():
    assert schedule_of(TierPlan("sync", 3.0, 1.0)) == Synchronous()
    assert schedule_of(TierPlan("deadline", 3.0, 1.0)) == Deadline(3.0)
    made = schedule_of(TierPlan("async", 0.0, 1.0, buffer=2, max_staleness=0))
    first, second = steps(made, Toys(Reply(0, 1.0), Reply(1, 2.0), Reply(2, 2.0)), 2)
    assert senders(first) == [0, 1]
    assert second.gap.stale == 1
