"""The flat environment: what its one array of actions means, and the checkers and PPO of other libraries."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.utils.env_checker import check_env

from strata.engine.determinism import single_thread
from strata.engine.errors import ActionError
from strata.envs.flat import FlatRounds, stretched
from strata.envs.plain import FederatedRounds
from tests.helpers.rounds import EVERY, arguments

K = 4
CHOOSING = {"method": "fedddrl", "overrides": ["data.limit=400", "clients.count=8", "clients.participation=0.5"]}


def test_numbers_between_minus_one_and_one_cover_every_action():
    # Four choices: [−1, −½) is 0, [−½, 0) is 1, [0, ½) is 2, [½, 1] is 3.
    numbers = np.array([-1, -0.51, -0.5, 0, 0.49, 0.5, 1], np.float32)
    assert stretched(numbers, MultiDiscrete([4] * 7)).tolist() == [0, 0, 1, 2, 2, 3, 3]
    box = Box(np.array([-3, 0], np.float32), np.array([3, 10], np.float32))
    np.testing.assert_allclose(stretched(np.array([-1, 0.5], np.float32), box), [-3, 7.5])
    assert box.contains(stretched(np.ones(2, np.float32), box))


def test_it_plays_the_same_rounds_as_the_plain_one():
    flat, plain = FlatRounds(**arguments()), FederatedRounds(**arguments())
    flat.action_space.seed(0)
    seen, _ = flat.reset()
    expected, _ = plain.reset()
    over = False
    while not over:
        stage = np.eye(3)[expected["stage"]]
        np.testing.assert_array_equal(seen, [*stage, *expected["size"].ravel(), *expected["intensity"].ravel()])
        action = flat.action_space.sample()
        by_agent = {"size": stretched(action[:K], plain.action_space["size"]), "intensity": 3 * action[K:]}
        seen, reward, _, over, _ = flat.step(action)
        expected, same, _, _, _ = plain.step(by_agent)
        assert reward == pytest.approx(same, rel=1e-6)


def test_where_every_agent_chooses_so_does_the_joint_action():
    flat = FlatRounds(**CHOOSING)
    assert isinstance(flat.action_space, MultiDiscrete)
    alone = FederatedRounds(**CHOOSING)
    sizes = [alone.action_space[agent].nvec for agent in alone.agents]
    assert flat.action_space.nvec.tolist() == np.concatenate(sizes).tolist()
    action = flat.action_space.sample()
    taken = flat.actions(action)
    assert np.concatenate([taken[agent] for agent in alone.agents]).tolist() == action.tolist()


@pytest.mark.parametrize("words", [arguments(), arguments("full"), CHOOSING], ids=["timing", "full", "choices"])
def test_gymnasiums_checker_passes(words):
    env = FlatRounds(**words)
    try:
        check_env(env, skip_render_check=True)
    finally:
        env.close()


def test_it_is_registered_and_seeds_reach_the_federation():
    env = gymnasium.make("Strata/FederatedRoundsFlat-v0", episodes="restart")
    first, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    env.close()


@pytest.mark.parametrize("wrong", [np.full(2 * K, 1.5), np.zeros(3), np.full(2 * K, np.nan)], ids=str)
def test_an_action_outside_the_space_is_refused(wrong):
    env = FlatRounds(**arguments())
    env.reset()
    with pytest.raises(ActionError, match=r"expected an action in Box\(-1.0, 1.0, \(8,\)"):
        env.step(wrong)


@pytest.mark.parametrize("words", [arguments(), CHOOSING], ids=["box", "choices"])
def test_stable_baselines_checker_passes_without_advice(words):
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="needs strata-fl[rl]")
    checker.check_env(FlatRounds(**words))


@pytest.mark.slow
def test_stable_baselines_learns_to_even_out_the_rounds():
    """One agent, so a round is a step; the same eight rounds again and again, whose clients keep their speeds."""
    library = pytest.importorskip("stable_baselines3", reason="needs strata-fl[rl]")
    env = FlatRounds(**arguments("timing", "method.size_agent=false", EVERY, rounds=8, episodes="restart"))
    words = {"n_steps": 64, "batch_size": 64, "gamma": 0.0, "learning_rate": 3e-3, "seed": 0, "device": "cpu"}
    model = library.PPO("MlpPolicy", env, **words)

    def earned():
        seen, _ = env.reset(seed=0)
        total, over = 0.0, False
        while not over:
            seen, reward, _, over, _ = env.step(model.predict(seen, deterministic=True)[0])
            total += float(reward)
        return total

    with single_thread():
        before = earned()
        model.learn(1024)
        after = earned()
    assert before < after < 0
