"""Learners against bandits whose best arms are known, and one update against its formula."""

import numpy as np
import pytest
from gymnasium.spaces import Box, MultiDiscrete
from ray.rllib.core.columns import Columns

from strata.agents.driver import Driver
from strata.agents.families.vdn import HALF_LIFE
from strata.agents.learnt import LearntPolicies
from strata.engine.method.control import AgentSpec
from strata.envs.multi_agent import FederatedRoundsEnv
from strata.envs.turns import Turns
from tests.helpers.toys import ARMS, Toy, ToyRounds, arms, driver, learn, mean_pay, numbers, settings

BLIND = Box(0.0, 1.0, (1,), np.float32)
BEST = (2, 0)  # of the two slots of a virtual agent
BASELINE = 0.6  # subtracted from the share of slots that are right: only the best action is worth more than nothing


class VirtualToy(Toy):
    """An agent per client, all side by side: paid for each slot that is best, less a baseline."""

    def stages(self, situation):
        return [[f"client {client}" for client in situation.clients]] if situation.clients else []

    def observe(self, agent, situation, chosen):
        return np.zeros(1, np.float32)

    def pay(self, situation, action):
        return float((np.array(action) == BEST).mean()) - BASELINE


def virtual(clients=3, lr=0.5):
    spec = AgentSpec(BLIND, MultiDiscrete([3, 2]), "reinforce", lr)
    return {f"client {client}": spec for client in range(clients)}


def virtual_driver(policies, agents, cohorts=()):
    k = len(agents)
    turns = Turns(ToyRounds(k, cohorts), VirtualToy(k, agents), k)
    return Driver(FederatedRoundsEnv({"turns": turns, "rounds": 1}), policies)


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


def test_value_decomposition_finds_the_best_arm_of_every_client():
    agents = {"arm": arms(learner="vdn")}
    assert mean_pay(agents, learn(agents, 100))["arm"] == 1.0


def test_virtual_agents_find_the_best_slots():
    agents = virtual()
    policies = LearntPolicies(agents, settings(), seed=0)
    loop = virtual_driver(policies, agents)
    for _ in range(40):
        loop.run_round()
    policies.learning = False
    assert set(loop.run_round().played.rewards.values()) == {1 - BASELINE}  # both slots right


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def adam(logits, gradients, lr, betas=(0.5, 0.999), epsilon=1e-8):
    """Kingma and Ba's algorithm 1, as written; ``gradients(logits)`` of each step."""
    m = v = np.zeros_like(logits)
    for t, gradient in enumerate(gradients, 1):
        g = gradient(logits)
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        logits = logits - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + epsilon)
    return logits


def test_virtual_agents_follow_their_formula_and_rest_when_they_do_not_act():
    agents = virtual()
    policies = LearntPolicies(agents, settings(), seed=1)
    cohorts = [[0, 1], [0], [0, 1], [0]]
    loop = virtual_driver(policies, agents, cohorts)
    seen = {agent: [] for agent in agents}
    act = policies.act

    def note(*args):
        actions = act(*args)
        for agent, action in actions.items():
            seen[agent].append(action)
        return actions

    policies.act = note
    for cohort in cohorts:
        acted = {f"client {client}" for client in cohort}
        assert set(loop.run_round().played.rewards) == acted

    def gradient(action):
        reward = float((action == BEST).mean()) - BASELINE
        picked = np.concatenate([np.eye(3)[action[0]], np.eye(2)[action[1]]])
        return lambda z: reward * (np.concatenate([softmax(z[:3]), softmax(z[3:])]) - picked)

    module = policies._learners["reinforce"].module
    for agent in agents:
        expected = adam(np.zeros(5), [gradient(action) for action in seen[agent]], lr=0.5)
        np.testing.assert_allclose(module[agent].logits.detach().numpy(), expected, atol=1e-5, err_msg=agent)
    assert [len(seen[agent]) for agent in agents] == [4, 2, 0]


def test_only_value_decomposition_learns_from_rounds_long_past():
    agents = {"arm": arms(learner="vdn"), "other": arms()}
    policies = LearntPolicies(agents, settings(replay=7, rounds_per_update=3), seed=0)
    given = {}
    for family, learner in policies._learners.items():

        def update(episodes, family=family, **kwargs):
            given.setdefault(family, []).append(max(map(len, episodes[0].agent_episodes.values())))
            return {}

        learner.update = update

    loop = driver(agents, policies)
    for _ in range(12):
        loop.run_round()
    assert given == {"vdn": [3, 6, 9, 10], "ppo": [3, 3, 3, 3]}  # what was kept, 7 at most, and 3 new ones


def test_exploration_of_value_decomposition_halves_every_fifty_actions():

    agents = {"arm": arms(learner="vdn")}
    policies = LearntPolicies(agents, settings(epsilon=0.6, rounds_per_update=10_000), seed=0)
    module = policies._learners["vdn"].module["arm"]

    observation = np.zeros((4, 1 + ARMS), np.float32)
    observation[:3, 0] = 1
    for taken in range(101):
        policies.act(1, None, {}, {"arm": observation})
        logits = policies._rounds[-1].steps[-1]["arm"][Columns.ACTION_DIST_INPUTS].reshape(4, ARMS)
        epsilon = 0.6 * 0.5 ** (taken / HALF_LIFE)
        shares = np.sort(np.exp(logits), axis=1)
        np.testing.assert_allclose(shares[:, :2], epsilon / 3, rtol=1e-4)
        np.testing.assert_allclose(shares[:, 2], 1 - 2 * epsilon / 3, rtol=1e-4)
    assert float(module.actions_taken) == 101
