"""Virtual agents against a bandit whose best slots are known, and one update against its formula."""

import numpy as np

from strata.agents.rllib_policies import LearntPolicies
from tests.helpers.arithmetic.linear import softmax
from tests.helpers.toys import BASELINE, BEST, settings, virtual, virtual_driver


def test_virtual_agents_find_the_best_slots():
    agents = virtual()
    policies = LearntPolicies(agents, settings(), seed=0)
    loop = virtual_driver(policies, agents)
    for _ in range(40):
        loop.run_round()
    policies.learning = False
    assert set(loop.run_round().played.rewards.values()) == {1 - BASELINE}  # both slots right


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
