"""Turns within a round: who acts, what is refused, who is paid, what is remembered."""

import numpy as np
import pytest
from gymnasium.spaces import Box, MultiDiscrete

from strata.engine.errors import ActionError
from strata.engine.method.control import AgentSpec, Control
from strata.engine.method.features import pad_rows
from strata.engine.method.situation import CallCost, Decisions
from strata.envs.turns import MEASURED, Memory, Turns
from tests.helpers.calls import report as report_of

K, N = 2, 4


class Script:
    """Rounds that follow a script: cohorts, and what their calls took; notes what it was asked."""

    def __init__(self, cohorts, accuracies=()):
        self.round, self.cohorts, self.accuracies = 0, cohorts, [*accuracies, *[None] * len(cohorts)]
        self.probed, self.told = [], []

    def invite(self):
        return self.cohorts[self.round]

    def probe(self, clients):
        self.probed.append((self.round, list(clients)))
        return report(clients)

    def play(self, decisions):
        cohort = self.cohorts[self.round]
        self.told.append(decisions)
        self.round += 1
        return report(cohort, accuracy=self.accuracies[self.round - 1])


def report(clients, completed=None, **changes):
    """Client c downloads 10 bytes in c + 1 s, computes 100 FLOPs in 2c + 2 s, uploads 20 bytes in 3c + 3 s."""
    who = np.array(clients, np.int64)
    one = who + 1.0
    ok = np.ones(len(who), bool) if completed is None else np.array(completed)
    n = len(who)
    costs = {"bytes_down": np.full(n, 10), "bytes_up": np.full(n, 20), "flops": np.full(n, 100)}
    seconds = {"download_s": one, "compute_s": 2 * one, "upload_s": 3 * one}
    return report_of(who, 9.0, 1.0, **{"lost": ~ok, **costs, **seconds, **changes})


class TwoStages(Control):
    """ "first" alone, then "left" and "right" side by side; "first" is paid the round, the others 1 and 2."""

    probes = True

    def __init__(self):
        super().__init__(None, [], None, K)

    def make_agents(self):
        rows = Box(-8.0, 8.0, (K, 2), np.float32)
        return {
            "first": AgentSpec(rows, MultiDiscrete([3] * K)),
            "left": AgentSpec(rows, Box(-1.0, 1.0, (K,), np.float32)),
            "right": AgentSpec(rows, Box(-1.0, 1.0, (K,), np.float32)),
            "resting": AgentSpec(rows, MultiDiscrete([3] * K)),
        }

    def stages(self, situation):
        return [["first"], ["left", "right"]] if situation.clients else []

    def observe(self, agent, situation, chosen):
        seen = float("first" in chosen and chosen["first"][0])
        return pad_rows([np.full(len(situation.clients), seen)], K)

    def decide(self, situation, chosen):
        pairs = zip(situation.clients, chosen["first"], strict=True)
        return Decisions({client: {"size": int(size)} for client, size in pairs})

    def rewards(self, situation, chosen, report):
        pay = {"first": float(situation.round) + 100 * report.gain, "left": 1.0, "right": 2.0}
        return {agent: pay[agent] for agent in chosen}

    def describe(self, situation, chosen):
        return {"mean": float(np.mean(chosen["first"]))}


FIRST, SIDES = {"first": [2, 1]}, {"left": np.zeros(K, np.float32), "right": np.ones(K)}


def played(turns):
    turns.open()
    turns.act(FIRST)
    return turns.act(SIDES)


def test_stages_follow_each_other_and_who_acted_is_paid_at_the_rounds_end():
    rounds = Script([[1, 3], [0, 1]])
    turns = Turns(rounds, TwoStages(), N)
    turn = turns.open()
    assert list(turn.observations) == ["first"]
    assert turn.chosen == {}
    turn = turns.act(FIRST)
    assert list(turn.observations) == ["left", "right"]
    assert turn.observations["left"].tolist() == [[1, 2], [1, 2]]  # there, and it sees what "first" chose
    assert turn.chosen["first"].tolist() == [2, 1]
    result = turns.act(SIDES)
    assert result.rewards == {"first": 1.0, "left": 1.0, "right": 2.0}
    assert result.metrics == {
        "agents/first/reward": 1.0, "agents/left/reward": 1.0, "agents/right/reward": 2.0, "agents/mean": 1.5,
    }  # fmt: skip
    assert rounds.told[0].clients == {1: {"size": 2}, 3: {"size": 1}}
    assert played(turns).rewards["first"] == 2.0


def test_every_stage_sees_all_earlier_ones():
    control = TwoStages()
    control.stages = lambda situation: [["first"], ["left"], ["right"]]
    turns = Turns(Script([[1, 3]]), control, N)
    turns.open()
    turns.act(FIRST)
    turn = turns.act({"left": SIDES["left"]})
    assert list(turn.chosen) == ["first", "left"]
    assert set(turns.act({"right": SIDES["right"]}).rewards) == {"first", "left", "right"}


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"first": [3, 0]}, r"agent first, round 1: expected an action in MultiDiscrete.*, got \[3, 0\]"),
        ({"first": [-1, 0]}, r"agent first, round 1"),
        ({"first": [1]}, r"agent first, round 1"),
        ({"first": [0.5, 1.0]}, r"agent first, round 1"),
        ({"first": [[1], [1, 2]]}, r"agent first, round 1"),
        ({"first": None}, r"agent first, round 1"),
        ({}, r"round 1: expected actions of first, got some of nobody"),
        ({**FIRST, "left": [0, 0]}, r"round 1: expected actions of first, got some of first, left"),
        ({"frist": [1, 1]}, r"round 1: expected actions of first, got some of frist"),
    ],
    ids=str,
)
def test_an_action_outside_its_space_is_refused_and_the_turn_stays(actions, message):
    turns = Turns(Script([[1, 3]]), TwoStages(), N)
    turn = turns.open()
    with pytest.raises(ActionError, match=message):
        turns.act(actions)
    assert turns.open() is turn
    turns.act(FIRST)
    result = turns.act(SIDES)
    assert result.rewards["first"] == 1.0


@pytest.mark.parametrize("wrong", [[0, 1.5], [np.nan, 0], [np.inf, 0], [0, 0, 0]], ids=str)
def test_the_same_in_the_second_stage(wrong):
    turns = Turns(Script([[1, 3]]), TwoStages(), N)
    turns.open()
    turns.act(FIRST)
    with pytest.raises(ActionError, match="agent right, round 1: expected an action in Box"):
        turns.act({**SIDES, "right": wrong})
    with pytest.raises(ActionError, match="round 1: expected actions of left, right, got some of right"):
        turns.act({"right": SIDES["right"]})
    assert turns.act(SIDES).rewards["right"] == 2.0


def test_acting_needs_an_open_round():
    turns = Turns(Script([[1, 3]]), TwoStages(), N)
    with pytest.raises(ActionError, match="no round is open"):
        turns.act(FIRST)
    played(turns)
    with pytest.raises(ActionError, match="no round is open"):
        turns.act(FIRST)


def test_opening_in_mid_round_begins_the_round_again_without_probing_again():
    rounds = Script([[1, 3], [1, 2]])
    turns = Turns(rounds, TwoStages(), N)
    assert turns.open() is turns.open()
    turns.act(FIRST)
    assert list(turns.open().observations) == ["first"]
    played(turns)
    assert len(rounds.told) == 1
    turns.open()
    assert rounds.probed == [(0, [1, 3]), (1, [2])]  # each client once


def test_rounds_to_which_nobody_comes_pass_with_the_defaults():
    rounds = Script([[], [0, 2]])
    turns = Turns(rounds, TwoStages(), N)
    turn = turns.open()
    assert turn.observations == {}
    with pytest.raises(ActionError, match="round 1: expected actions of nobody, got some of first"):
        turns.act(FIRST)
    result = turns.act({})
    assert result.rewards == result.metrics == {}
    assert rounds.told == [None]
    assert played(turns).rewards["first"] == 2.0


def test_gain_is_the_step_from_the_last_evaluated_round():
    rounds = Script([[0, 1]] * 4, accuracies=[0.25, None, 0.75, 0.5])
    turns = Turns(rounds, TwoStages(), N)
    assert [played(turns).report.gain for _ in range(4)] == [0.0, 0.0, 0.5, -0.25]


def test_memory_keeps_what_completed_calls_have_shown():
    memory = Memory.empty(N)
    memory.learn(report([0, 2], bytes_up=np.zeros(2)))  # probes upload nothing
    situation = memory.situation(1, [0, 1, 2])
    np.testing.assert_allclose(situation.s_per_flop, [0.02, np.nan, 0.06])
    np.testing.assert_allclose(situation.s_per_byte_down, [0.1, np.nan, 0.3])
    np.testing.assert_allclose(situation.s_per_byte_up, [0.1, np.nan, 0.3])  # downloads stand for uploads
    accurate = {"acc": np.array([0.5, 0.6])}
    memory.learn(report([0, 1], completed=[False, True], metrics=accurate, accuracy=0.4))
    situation = memory.situation(2, [0, 1, 2])
    np.testing.assert_allclose(situation.s_per_byte_up, [0.1, 0.3, 0.3])
    np.testing.assert_allclose(situation.s_per_flop, [0.02, 0.04, 0.06])
    np.testing.assert_allclose(situation.metrics["acc"], [np.nan, 0.6, np.nan])  # who was lost reported nothing
    assert situation.accuracy == 0.4
    # Seconds of calls: 10 bytes down, 100 FLOPs, 20 bytes up.

    np.testing.assert_allclose(situation.seconds([CallCost(10, 20, 100)] * 3)[1], 2 + 4 + 6)


def test_what_is_remembered_can_be_put_back():
    turns = Turns(Script([[0, 1], [1, 3]], accuracies=[0.5]), TwoStages(), N)
    played(turns)
    other = Turns(Script([[0, 1], [1, 3]]), TwoStages(), N)
    other.restore(turns.state())
    other.rounds.round = 1
    one, two = turns.open(), other.open()
    assert other.rounds.probed == [(1, [3])]
    np.testing.assert_array_equal(one.situation.s_per_flop, two.situation.s_per_flop)
    assert two.situation.accuracy == 0.5


def test_only_of_clients_that_were_called_something_is_kept():
    turns = Turns(Script([[0, 1], [1, 3]], accuracies=[0.5]), TwoStages(), N)
    played(turns)
    kept = turns.state()
    assert kept["clients"] == [0, 1]
    assert {len(kept[name]) for name in MEASURED} == {2}


def test_what_everyone_has_reported_cannot_be_changed_by_who_sees_it():
    memory = Memory.empty(N)
    memory.learn(report([0, 1], metrics={"acc": np.array([0.5, 0.6])}))
    shown = memory.situation(2, [0]).everyone["acc"]
    np.testing.assert_array_equal(shown[:3], [0.5, 0.6, np.nan])
    with pytest.raises(ValueError, match="read-only"):
        shown[0] = 1.0


def test_rewards_see_what_was_known_when_the_round_began():
    seen = []

    class Looks(TwoStages):
        def rewards(self, situation, chosen, report):
            seen.append({name: values.copy() for name, values in situation.everyone.items()})
            return super().rewards(situation, chosen, report)

    class Reports(Script):
        def play(self, decisions):
            self.round += 1
            return report([0, 1], metrics={"acc": np.array([0.75, 0.75])})

    turns = Turns(Reports([[0, 1]]), Looks(), N)
    turns.memory.learn(report([1], metrics={"acc": np.array([0.25])}))
    played(turns)
    np.testing.assert_array_equal(seen[0]["acc"][:3], [np.nan, 0.25, np.nan])
    np.testing.assert_array_equal(turns.memory.metrics["acc"][:3], [0.75, 0.75, np.nan])


def test_control_without_agents_probes_nobody():
    control = TwoStages()
    control.agents, control.stages = {}, lambda situation: []
    rounds = Script([[0, 1]])
    turns = Turns(rounds, control, N)
    turns.open()
    turns.act({})
    assert rounds.probed == []
    assert rounds.told == [None]
