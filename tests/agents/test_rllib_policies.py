"""Learnt policies as the loop sees them: sampling, freezing, saving, and that PPO finds the best arms."""

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from strata.agents.driver import Driver
from strata.agents.rllib_policies import VDN_EPOCHS, LearntPolicies
from strata.engine.errors import ConfigError
from strata.engine.state import checkpoint
from strata.engine.tree import fingerprint
from strata.envs.multi_agent import FederatedRoundsEnv
from tests.helpers.toys import ARMS, arms, driver, learn, mean_pay, numbers, settings, turns, virtual


@pytest.mark.parametrize(
    ("k", "rounds", "lr", "changes"),
    [
        (3, 150, 0.01, {"rounds_per_update": 10, "epochs": 8}),
        (1, 300, 0.005, {"rounds_per_update": 20, "epochs": 10, "network": "mlp", "hidden": 32}),
    ],
    ids=["equivariant", "mlp"],
)
def test_ppo_finds_the_best_arm_of_every_client(k, rounds, lr, changes):
    agents = {"arm": arms(k, lr=lr), "number": numbers(k, lr=lr)}
    fresh = mean_pay(agents, LearntPolicies(agents, settings(**changes), seed=0), k)
    assert fresh["arm"] < 0.7  # a fresh policy prefers nothing: its mode is one arm for all
    learnt = mean_pay(agents, learn(agents, rounds, k, **changes), k)
    assert learnt["arm"] == 1.0
    assert learnt["number"] > 0.4 * fresh["number"]  # the distance to the best number, 0 at best


AGENTS = {"arm": arms(), "number": numbers()}
SEEN = {agent: np.ones((4, 1 + ARMS), np.float32) for agent in AGENTS}


def acts(policies):
    return {agent: action.tolist() for agent, action in policies.act(1, None, {}, SEEN).items()}


def test_actions_are_sampled_while_learning_and_modes_when_frozen():
    policies = LearntPolicies(AGENTS, settings(exploration=5.0), seed=0)
    assert acts(policies) != acts(policies)
    policies.learning = False
    assert acts(policies) == acts(policies)
    assert acts(policies)["number"] == [0, 0, 0, 0]  # the mean of a fresh policy
    assert policies.learn(1, {"arm": 1.0, "number": 1.0}) == {}
    assert len(policies._rounds[-1].steps) == 2, "a frozen policy keeps what it did"


def test_after_the_rounds_to_learn_in_policies_only_act():
    policies = LearntPolicies(AGENTS, settings(exploration=5.0, rounds_per_update=2), seed=0)
    policies.learn_rounds = 2

    def played(round):
        actions = policies.act(round, None, {}, SEEN)
        policies.learn(round, {"arm": 1.0, "number": 1.0})
        return fingerprint({agent: action.tolist() for agent, action in actions.items()})

    first, second = played(1), played(2)
    assert first != second
    learnt = fingerprint(policies.state()["learners"])
    assert played(3) == played(4)
    assert fingerprint(policies.state()["learners"]) == learnt
    assert acts(policies) != acts(policies), "in a round that is made again, as before"


def test_actions_lie_in_their_spaces_and_what_is_learnt_from_was_not_clipped():
    policies = LearntPolicies(AGENTS, settings(exploration=20.0), seed=0)
    for _ in range(20):
        actions = policies.act(1, None, {}, SEEN)
        for agent, spec in AGENTS.items():
            assert spec.action_space.contains(actions[agent]), (agent, actions[agent])
    kept = np.array([step["number"][Columns.ACTIONS] for step in policies._rounds[-1].steps])
    assert abs(kept).max() > 3


def test_sampling_depends_on_the_seed_the_agent_and_the_moment_alone():
    def sequence(seed, agents):
        policies = LearntPolicies(agents, settings(exploration=2.0), seed)
        torch.rand(3)  # the global generator is nobody's business
        return [policies.act(1, None, {}, {a: SEEN["arm"] for a in agents}) for _ in range(8)]

    def of(made, agent):
        return [actions[agent].tolist() for actions in made]

    both = {"one": arms(), "two": arms()}
    first, again, other = sequence(0, both), sequence(0, both), sequence(1, both)
    assert of(first, "one") == of(again, "one") != of(other, "one")
    assert of(first, "one") != of(first, "two")
    assert of(first, "one") == of(sequence(0, {"one": arms()}), "one")  # nobody else's presence matters


def test_rounds_in_which_nobody_acts_are_no_rounds_to_learn_from():
    cohorts = [[0, 1], [], [], [0, 2], [], [1, 2], [0, 1, 2, 3]]
    policies = LearntPolicies({"arm": arms()}, settings(rounds_per_update=3), seed=0)
    loop = driver({"arm": arms()}, policies, cohorts=cohorts)
    updated = [any("total_loss" in name for name in loop.run_round().metrics) for _ in cohorts]
    assert updated == [False, False, False, False, False, True, False]


def test_learning_reports_its_curves():
    policies = learn({"arm": arms()}, 4, rounds_per_update=5, epochs=1)
    loop = driver({"arm": arms()}, policies)
    metrics = loop.run_round().metrics
    assert {"agents/arm/reward", "agents/arm/total_loss", "agents/arm/entropy", "agents/arm/vf_loss"} <= set(metrics)
    # Four clients with three arms each, and a policy that prefers none yet.
    assert metrics["agents/arm/entropy"] == pytest.approx(4 * np.log(3), rel=1e-6)


@pytest.mark.parametrize(
    "agents",
    [AGENTS, {"arm": arms(learner="vdn")}],
    ids=["ppo", "vdn"],
)
def test_a_run_goes_on_from_a_saved_state_to_the_bit(agents, tmp_path):
    def through(disk):
        policies = LearntPolicies(agents, settings(replay=4), seed=0)
        environment = turns(agents)

        def loop(own):
            return Driver(FederatedRoundsEnv({"turns": environment, "rounds": 1}), own)

        playing, curves = loop(policies), []
        for number in range(1, 13):
            curves.append(dict(playing.run_round().metrics))
            if disk and number in (3, 7, 10):  # before an update, and between two
                path = checkpoint.save(tmp_path, number, policies.state(), {}, keep=5)
                policies = LearntPolicies(agents, settings(replay=4), seed=0)
                policies.restore(checkpoint.load(path, {}, ()))
                playing = loop(policies)
        return fingerprint(policies.state()), curves

    assert through(disk=True) == through(disk=False)


def test_step_sizes_of_a_run_win_over_those_of_the_agents_it_starts_from():
    saved = learn({"arm": arms(lr=0.02)}, 5, rounds_per_update=5).state()["learners"]
    policies = LearntPolicies({"arm": arms(lr=0.02)}, settings(lr={"arm": 0.007}), seed=0)
    policies.restore_learners(saved)
    optimizer = policies._learners["ppo"].get_optimizer("arm")
    assert [group["lr"] for group in optimizer.param_groups] == [0.007]
    assert optimizer.state, "the optimiser's memory is not taken over"


@pytest.mark.parametrize("agents", [AGENTS, {"arm": arms()}, {"one": arms(learner="vdn"), "two": arms(learner="vdn")}])
def test_an_update_makes_one_step_per_epoch_on_all_rounds(agents, monkeypatch):
    policies = learn(agents, 4, rounds_per_update=5, epochs=7)
    (learner,) = policies._learners.values()
    rows, before = [], type(learner).compute_loss_for_module

    def note(self, *, module_id, batch, **rest):
        mask = batch[Columns.LOSS_MASK] if Columns.LOSS_MASK in batch else np.ones(len(batch[Columns.OBS]), bool)
        rows.append(int(mask.sum()))
        return before(self, module_id=module_id, batch=batch, **rest)

    monkeypatch.setattr(type(learner), "compute_loss_for_module", note)
    driver(agents, policies).run_round()
    passes = VDN_EPOCHS if "one" in agents else 7  # value decomposition has a number of its own
    assert rows == [5] * passes * len(agents)
    for agent in agents:
        steps = {float(state["step"]) for state in learner.get_optimizer(agent).state.values()}
        assert steps == {float(passes)}


def test_step_sizes_of_agents_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match=r"agents.lr.amr: no such agent. Did you mean arm\? Expected one of arm, num"):
        LearntPolicies(AGENTS, settings(lr={"amr": 0.1}), seed=0)


def test_what_is_paid_in_a_later_round_is_learnt_as_if_it_were_paid_at_once(tmp_path):
    agents, types = virtual(3), {}
    seen = {agent: np.zeros(1, np.float32) for agent in agents}

    def begun():
        policies = LearntPolicies(agents, settings(), seed=0)
        policies.unpaid = {}
        policies.act(1, None, {}, seen)
        return policies

    at_once, later = begun(), begun()
    at_once.learn(1, {"client 0": 0.5, "client 1": -1.0})
    later.learn(1, {"client 0": 0.5})
    assert set(later.unpaid) == {"client 1", "client 2"}
    checkpoint.save(tmp_path, 1, later.state(), {}, 1, types)
    resumed = LearntPolicies(agents, settings(), seed=0)
    resumed.restore(checkpoint.load(tmp_path / "round-000001", {}, types))
    for policies in (later, resumed):
        policies.act(2, None, {}, {"client 0": seen["client 0"]})
        policies.learn(2, {"client 1": -1.0})
        assert set(policies.unpaid) == {"client 0", "client 2"}
        own, other = (p.state()["learners"]["reinforce"]["rl_module"] for p in (policies, at_once))
        assert fingerprint(own["client 1"]) == fingerprint(other["client 1"])
        assert fingerprint(own["client 2"]) == fingerprint(other["client 2"]) != fingerprint(own["client 1"])


def test_where_all_is_paid_at_once_nothing_is_kept_for_later():
    agents = virtual(2)
    policies = LearntPolicies(agents, settings(), seed=0)
    policies.act(1, None, {}, {agent: np.zeros(1, np.float32) for agent in agents})
    policies.learn(1, {"client 0": 0.5})
    before = fingerprint(policies.state()["learners"])
    policies.learn(2, {"client 1": 1.0})
    assert fingerprint(policies.state()["learners"]) == before
    assert "unpaid" not in policies.state()
