"""Seeds of resets: which federation an episode plays, and how copies of an environment differ."""

import gymnasium
import numpy as np
import pytest

from strata.engine.errors import ConfigError
from strata.envs.opening import Windows
from strata.envs.plain import FederatedRounds
from strata.envs.stages import StagedRounds
from tests.helpers.rounds import arguments
from tests.helpers.toys import arms, turns


def lengths(env, **reset):
    """Virtual seconds of an episode's rounds, under the same actions whatever the episode."""
    env.action_space.seed(0)
    env.reset(**reset)
    found, over = [], False
    while not over:
        _, _, _, over, info = env.step(env.action_space.sample())
        found += [info["round_s"]] if "round_s" in info else []
    return found


@pytest.mark.parametrize("fidelity", ["full", "timing"])
def test_a_reset_with_a_seed_begins_a_federation_of_that_seed(fidelity):
    env = FederatedRounds(**arguments(fidelity, episodes="restart"))
    own = FederatedRounds(**arguments(fidelity, "seed=7"))
    seventh = lengths(own)
    assert lengths(env, seed=7) == seventh
    assert lengths(env) == seventh  # the next episode is of the same federation, begun anew
    assert lengths(env, seed=8) != seventh
    assert lengths(env, seed=7) == seventh
    for each in (env, own):
        each.close()


def test_without_a_seed_the_first_episode_is_of_the_runs_own():
    env, own = FederatedRounds(**arguments(episodes="restart")), FederatedRounds(**arguments())
    assert lengths(env) == lengths(env, seed=0) == lengths(own)


def test_the_first_seeded_reset_builds_nothing_twice():
    windows = Windows(**arguments("timing", "seed=3", episodes="restart"))
    _ = windows.control
    opened = windows._open[0]
    assert windows.next(seed=3) is opened
    assert windows.next() is not opened
    assert windows.next(seed=3).rounds.round == 0


def test_where_rounds_go_on_a_seed_changes_nothing():
    env, other = FederatedRounds(**arguments()), FederatedRounds(**arguments())
    first = lengths(env, seed=1)
    assert first == lengths(other, seed=2)
    assert lengths(env, seed=1) != first


def test_populations_of_an_episode_that_restarts_begin_with_the_seed():
    windows = Windows(**arguments("timing", populations=2, episodes="restart"))
    seeds = [windows.next(seed=5 if number == 0 else None).rounds.world.seed for number in range(4)]
    assert seeds == [5, 6, 5, 6]


def test_copies_in_a_vector_environment_differ_by_their_seeds():
    def make():
        return FederatedRounds(**arguments(episodes="restart"))

    copies = gymnasium.vector.SyncVectorEnv([make, make])
    seen, _ = copies.reset(seed=3)
    assert not np.array_equal(seen["size"][0], seen["size"][1])
    alone = [make().reset(seed=seed)[0]["size"] for seed in (3, 4)]
    np.testing.assert_array_equal(seen["size"], alone)
    copies.close()


def test_stages_take_seeds_as_well():
    def first(seed):
        env = StagedRounds(arguments(episodes="restart"))
        return env.reset(seed=seed)[0]["size"]

    np.testing.assert_array_equal(first(4), first(4))
    assert not np.array_equal(first(4), first(5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (arguments(episodes="anew"), "episodes=anew: expected continue or restart"),
        ({"turns": turns({"first": arms()}), "episodes": "restart"}, "episodes=restart: rounds that are given go on"),
    ],
)
def test_mistakes_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        StagedRounds(words)


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ConfigError, match="seed=-1: expected at least 0"):
        StagedRounds(arguments(episodes="restart")).reset(seed=-1)
