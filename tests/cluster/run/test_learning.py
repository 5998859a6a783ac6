"""Rounds of the timing model as records."""

from math import nan

import pytest

from strata.agents.driver import RoundResult
from strata.agents.policies import RulePolicies
from strata.cluster.run.learning import Paid, pretrain, record_of
from strata.cluster.run.session import Session
from strata.engine.config.load import load_config
from strata.engine.errors import StrataWarning
from strata.engine.method.calls import LATE, LOST, OK, CallTable
from strata.engine.method.situation import Report
from strata.engine.tree import fingerprint
from strata.envs.opening import timing_turns
from strata.envs.turns import Played
from tests.helpers.records import call
from tests.helpers.rounds import HAPFL


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


def trained(layout):
    """Four timed rounds under random decisions, which are paid as learnt ones would be."""
    config = load_config("hapfl", [*HAPFL, "runtime=inprocess", f"agents.layout={layout}"])
    pretrain(config, RulePolicies("random", timing_turns(config).control, 0), rounds=4, populations=1)


def test_a_reward_that_never_changes_is_said():
    # "aggregation" is paid the gain of accuracy, of which the timing model knows nothing; "allocation" is paid times.
    with pytest.warns(StrataWarning, match=r"hapfl: the reward never changed of aggregation \(0\), so they have"):
        trained("allocation+aggregation")


def test_rewards_that_change_are_not_warned_of():
    trained("size+intensity")  # warnings are errors


def test_a_run_learns_in_its_first_rounds_alone_however_long_agents_were_trained_before_it(tmp_path):
    words = [*HAPFL, "runtime=inprocess", "agents.rounds_per_update=2", "agents.learn_rounds=2", "rounds=4"]
    config = load_config("hapfl", [*words, "agents.policy=rllib", "agents.pretrain_rounds=6", f"output={tmp_path}"])
    with Session(config, lambda line: None, True) as session:
        before = fingerprint(session._policies.state()["learners"])
        seen = []
        for _ in range(4):
            session.run_round()
            seen.append(fingerprint(session._policies.state()["learners"]))
    assert before != seen[1] == seen[2] == seen[3]


def test_a_reward_that_was_paid_once_is_not_one_that_never_changed():
    paid = Paid()
    paid.take({"once": 1.0, "same": 2.0, "other": 3.0})
    paid.take({"same": 2.0, "other": 3.5})
    paid.take({"other": 3.0})
    assert paid.same == {"same": 2.0}
