"""Value decomposition against a bandit whose best arms are known, and what it remembers and explores."""

import numpy as np
from ray.rllib.core.columns import Columns

from strata.agents.families.vdn import HALF_LIFE
from strata.agents.rllib_policies import LearntPolicies
from tests.helpers.toys import ARMS, arms, driver, learn, mean_pay, settings


def test_value_decomposition_finds_the_best_arm_of_every_client():
    agents = {"arm": arms(learner="vdn")}
    assert mean_pay(agents, learn(agents, 100))["arm"] == 1.0


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
