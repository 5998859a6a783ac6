"""PettingZoo's parallel environment: its own test, and the same rounds as the plain one."""

import numpy as np
import pytest

pytest.importorskip("pettingzoo", reason="needs strata-fl[rl]")

from pettingzoo.test import parallel_api_test

from strata.engine.errors import ActionError
from strata.envs.parallel import ParallelRounds
from strata.envs.plain import FederatedRounds
from tests.helpers.rounds import arguments


@pytest.mark.parametrize("fidelity", ["full", "timing"])
def test_pettingzoos_own_test_passes(fidelity):
    env = ParallelRounds(**arguments(fidelity))
    try:
        parallel_api_test(env, num_cycles=30)
    finally:
        env.close()


def test_it_plays_the_same_rounds_as_the_plain_one():
    env, plain = ParallelRounds(**arguments()), FederatedRounds(**arguments())
    plain.action_space.seed(0)
    seen, infos = env.reset()
    expected, info = plain.reset()
    paid = 0.0
    while env.agents:
        for agent in env.agents:
            np.testing.assert_array_equal(seen[agent], expected[agent])
            assert infos[agent]["acts"] == (agent in info["agents"])
        actions = plain.action_space.sample()
        seen, rewards, _, over, infos = env.step(actions)
        expected, _, _, last, info = plain.step(actions)
        assert rewards == {agent: info.get("rewards", {}).get(agent, 0.0) for agent in env.possible_agents}
        assert set(over.values()) == {last}
        paid += sum(rewards.values())
    assert paid < 0


def test_the_actions_of_those_whose_turn_it_is_are_needed():
    env = ParallelRounds(**arguments())
    env.reset()
    with pytest.raises(ActionError, match="round 1: expected actions of size, got some of nobody"):
        env.step({})
