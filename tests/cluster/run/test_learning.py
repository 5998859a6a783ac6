"""Rounds of the timing model as records."""

from math import nan

from strata.agents.driver import RoundResult
from strata.cluster.run.learning import record_of
from strata.engine.method.calls import LATE, LOST, OK, CallTable
from strata.engine.method.situation import Report
from strata.envs.turns import Played
from tests.helpers.records import call


def record(*statuses):
    calls = CallTable.of([call(client, status=status, loss=nan) for client, status in enumerate(statuses)])
    played = Played({}, Report(calls, round_s=3.0, straggling_s=2.0), {})
    return record_of(7, 11.0, RoundResult(played, {"agents/reward": -1.5}, 0.25))


def test_a_timed_round_says_what_became_of_its_calls():
    made = record(OK, LATE, LOST, LOST, OK, LOST)
    assert (made.invited, made.completed, made.late, made.lost) == (6, 2, 1, 3)
    assert (made.round, made.virtual_s, made.round_s, made.straggling_s) == (7, 11.0, 3.0, 2.0)
    assert (made.bytes_client_down, made.bytes_client_up, made.flops) == (6 * 100, 6 * 50, 6 * 1000)
    assert (made.train_loss, made.scores, dict(made.metrics)) == (None, {}, {"agents/reward": -1.5})
    assert made.agents_wall_s == 0.25
    assert len(made.calls) == 0


def test_a_timed_round_to_which_nobody_came_is_empty():
    made = record()
    assert (made.invited, made.completed, made.late, made.lost, made.flops) == (0, 0, 0, 0, 0)
