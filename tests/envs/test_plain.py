"""The plain environment: gymnasium's checker, windows, and actions that are refused."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from strata.engine.errors import ActionError, ConfigError
from strata.envs.plain import FederatedRounds
from tests.helpers.rounds import HAPFL, arguments

LAYOUTS = ["size+intensity", "allocation+aggregation"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fidelity", ["full", "timing"])
def test_gymnasiums_checker_passes(fidelity, layout):
    env = FederatedRounds(**arguments(fidelity, f"agents.layout={layout}"))
    try:
        check_env(env)
    finally:
        env.close()


def test_it_is_registered_and_passes_as_gymnasium_makes_it():
    env = gymnasium.make("Strata/FederatedRounds-v0", **arguments("timing", "method.size_agent=false", rounds=4))
    assert type(env.unwrapped) is FederatedRounds
    assert set(env.action_space.spaces) == {"intensity"}
    env.reset(seed=0)
    # One agent, so each round is one step; what ends the window is its rounds and no limit of gymnasium's.
    assert [env.step(env.action_space.sample())[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]
    check_env(env.unwrapped)
    env.close()


def test_made_without_arguments_it_is_a_small_hapfl_that_is_timed():
    env = gymnasium.make("Strata/FederatedRounds-v0")
    assert set(env.action_space.spaces) == {"size", "intensity"}
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1] == 0  # the sizes of a round whose intensities come next
    assert env.step(env.action_space.sample())[4]["round_s"] > 0
    env.close()


SEARCH = ("data.limit=400", "clients.count=6", "clients.participation=0.5", "delays.availability=1")


@pytest.mark.parametrize(
    ("method", "overrides"),
    [
        ("perfedrlnas", SEARCH),
        ("fedddrl", ("data.limit=400", "clients.count=8", "clients.participation=0.5")),
        *[("hapfl", (*HAPFL, f"agents.layout={layout}")) for layout in LAYOUTS],
    ],
)
def test_observations_lie_in_their_declared_spaces(method, overrides):
    env = FederatedRounds(method=method, overrides=overrides, rounds=4)
    env.action_space.seed(0)
    observation, _ = env.reset()
    over, steps = False, 0
    while not over:
        assert observation in env.observation_space
        observation, _, _, over, _ = env.step(env.action_space.sample())
        steps += 1
    assert observation in env.observation_space
    assert steps >= 4
    env.close()


def test_a_window_is_truncated_after_its_rounds_and_the_next_goes_on():
    env = FederatedRounds(**arguments("full", rounds=2))
    env.action_space.seed(0)
    _, info = env.reset()
    federation = env._windows._federation
    assert info["agents"] == ["size"]
    steps, rewards = [], []
    for _ in range(4):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert not terminated
        steps.append((int(observation["stage"]), truncated, federation.round))
        rewards.append(reward)
        if "rewards" in info:
            assert reward == pytest.approx(sum(info["rewards"].values()))
            assert set(info["rewards"]) == {"size", "intensity"}
            assert info["round_s"] > 0
            assert 0 <= info["accuracy"] <= 1
    assert steps == [(1, False, 0), (0, False, 1), (1, False, 1), (1, True, 2)]
    assert rewards[0] == rewards[2] == 0 != rewards[1]
    env.reset()
    assert federation.round == 2, "a reset restarts training"
    env.reset(seed=9)
    assert env._windows._federation is federation
    env.reset(options={"restart": True})
    assert env._windows._federation is not federation
    assert env._windows._federation.round == 0
    env.close()
    env.close()


def test_an_action_outside_its_space_is_refused_and_named():
    env = FederatedRounds(**arguments())
    env.reset()
    good = env.action_space.sample()
    with pytest.raises(ActionError, match="agent size, round 1: expected an action in MultiDiscrete"):
        env.step({**good, "size": np.array([9, 0, 0, 0])})
    with pytest.raises(ActionError, match="round 1: expected actions of size, got some of nobody"):
        env.step({"intensity": good["intensity"]})
    env.step(good)
    with pytest.raises(ActionError, match="agent intensity, round 1"):
        env.step({**good, "intensity": np.full(4, 9.0)})
    assert env.step(good)[4]["rewards"]


def test_a_window_in_which_nobody_ever_comes_is_an_error():
    env = FederatedRounds(**arguments("timing", "delays.availability=0.000001"))
    with pytest.raises(ConfigError, match="nobody is available in any round of the window"):
        env.reset()
