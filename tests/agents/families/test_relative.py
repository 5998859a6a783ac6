"""Agents that learn against their own past and share a part: against their formula, and through a checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.spaces import MultiDiscrete

from strata.agents import store
from strata.agents.rllib_policies import LearntPolicies
from strata.engine.errors import AgentCheckpointError
from strata.engine.method.control import AgentSpec, Relative
from strata.engine.state import checkpoint
from strata.engine.tree import fingerprint
from tests.helpers.arithmetic.linear import softmax
from tests.helpers.toys import BLIND, settings

SIZES = (3, 2)


def agents_of(calls=2, memory=0.75, shared=0.5, clients=3, lr=0.4):
    spec = AgentSpec(BLIND, MultiDiscrete(SIZES), "relative", lr, Relative(calls, memory, shared))
    return {f"client {client}": spec for client in range(clients)}


ROUNDS = [  # what each client of a round is paid
    {0: 0.9, 1: 0.1},
    {0: 0.7, 2: 0.5},
    {0: 0.8, 1: 0.3, 2: 0.5},
    {1: -0.4},
    {0: 1.1, 1: 0.2, 2: 0.9},
]


def play(policies, rounds=ROUNDS):
    """What everyone did in each round."""
    done = []
    for number, paid in enumerate(rounds, 1):
        rewards = {f"client {client}": reward for client, reward in paid.items()}
        done.append(policies.act(number, None, {}, {agent: np.zeros(1, np.float32) for agent in rewards}))
        policies.learn(number, rewards)
    return done


def logits_of(policies):
    module = policies._learners["relative"].module
    return {agent: module[agent].all_logits().detach().numpy() for agent in policies._specs}


def by_hand(done, calls, memory, shared, lr=0.4):
    """The logits of every agent after these rounds, as the module's docstring has them."""
    own, b = {agent: np.zeros(sum(SIZES)) for agent in agents_of()}, np.zeros(sum(SIZES))
    past, v = {agent: [] for agent in own}, 0.0
    for paid, actions in zip(ROUNDS, done, strict=True):
        rewards = {f"client {client}": reward for client, reward in paid.items()}
        advantages = {
            agent: reward - (np.mean(past[agent][-calls:]) if calls else 0.0)
            for agent, reward in rewards.items()
            if past[agent] or not calls
        }
        if memory and advantages:
            now = np.mean(np.square(list(advantages.values())))
            v = memory * v + (1 - memory) * now if v else now
        moves = {}
        for agent, advantage in advantages.items():
            alpha = np.split(own[agent] + b, np.cumsum(SIZES)[:-1])
            rows = [softmax(z) - np.eye(n)[a] for z, n, a in zip(alpha, SIZES, actions[agent], strict=True)]
            moves[agent] = advantage / (v**0.5 if memory else 1.0) * np.concatenate(rows)
        for agent, move in moves.items():
            own[agent] = own[agent] - lr * move
        b = b - lr * shared * sum(moves.values(), np.zeros(sum(SIZES)))
        for agent, reward in rewards.items():
            past[agent].append(reward)
    return {agent: alpha + b for agent, alpha in own.items()}


@pytest.mark.parametrize("how", [(2, 0.75, 0.5), (8, 0.0, 0.5), (2, 0.75, 0.0), (0, 0.9, 0.5), (0, 0.0, 0.0)], ids=str)
def test_agents_follow_their_formula(how):
    policies = LearntPolicies(agents_of(*how), settings(), seed=0)
    expected = by_hand(play(policies), *how)
    for agent, logits in logits_of(policies).items():
        np.testing.assert_allclose(logits, expected[agent], atol=1e-5, err_msg=agent)
    assert all(np.abs(logits).max() > 0.05 for logits in expected.values())


def test_first_payments_teach_nothing_and_later_ones_teach_those_who_did_not_act_what_is_shared():
    policies = LearntPolicies(agents_of(), settings(), seed=0)
    play(policies, ROUNDS[:1])
    assert not any(logits.any() for logits in logits_of(policies).values())
    play(policies, [{0: 0.5}])
    moved = logits_of(policies)
    np.testing.assert_array_equal(moved["client 1"], moved["client 2"])
    np.testing.assert_allclose(moved["client 0"], 3 * moved["client 1"], rtol=1e-5)  # own and half of it, against half
    assert moved["client 1"].any()


def test_agents_act_by_what_they_share():
    policies = LearntPolicies(agents_of(), settings(), seed=0)
    for _ in range(30):
        (done,) = play(policies, [{0: 0.0}])
        play(policies, [{0: float((np.asarray(done["client 0"]) == (2, 1)).mean())}])
    policies.learning = False
    chosen = policies.act(99, None, {}, {"client 1": np.zeros(1, np.float32)})["client 1"]
    logits = np.split(logits_of(policies)["client 1"], [3])
    assert list(chosen) == [part.argmax() for part in logits]
    assert len(np.unique(logits[0])) > 1


def test_a_saved_and_a_fresh_learner_go_on_alike(tmp_path):
    policies, types = LearntPolicies(agents_of(), settings(), seed=0), {}
    play(policies, ROUNDS[:3])
    checkpoint.save(tmp_path, 3, policies.state(), {}, 1, types)
    resumed = LearntPolicies(agents_of(), settings(), seed=0)
    resumed.restore(checkpoint.load(tmp_path / "round-000003", {}, types))
    play(policies, ROUNDS[3:])
    play(resumed, ROUNDS[3:])
    assert fingerprint(resumed.state()) == fingerprint(policies.state())


def test_step_sizes_of_a_run_win_over_saved_ones_for_what_is_shared_too():
    policies = LearntPolicies(agents_of(), settings(), seed=0)
    play(policies)
    other = LearntPolicies(agents_of(lr=0.1), settings(lr={"client 1": 0.7}), seed=0)
    other.restore_learners(policies.state()["learners"])
    found = [
        other._learners["relative"].get_optimizer(module).param_groups[0]["lr"]
        for module in ("client 0", "client 1", "everyone")
    ]
    assert found == [0.1, 0.7, 0.05]


def test_agents_that_remember_another_number_of_payments_are_refused(tmp_path):
    agents = agents_of(calls=2)
    learners = LearntPolicies(agents, settings(), seed=0).state()["learners"]
    store.save(tmp_path / "agents", learners, agents, settings(), "default", "toy")
    assert fingerprint(store.load(tmp_path / "agents", agents, settings(), "default")) == fingerprint(learners)
    for others in (agents_of(calls=3), {name: replace(spec, learner="reinforce") for name, spec in agents.items()}):
        with pytest.raises(
            AgentCheckpointError, match=r"made for another (observation and action space|set of agents)"
        ):
            store.load(tmp_path / "agents", others, settings(), "default")
