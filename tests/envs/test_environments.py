"""The environments: gymnasium's checker, RLlib's own loop, windows, and the fidelities beside each other."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_checker import data_equivalence as equal

from strata.engine.errors import ActionError, ConfigError
from strata.engine.method.control import COMMON
from strata.envs.multi_agent import FederatedRoundsEnv
from strata.envs.opening import Windows
from strata.envs.plain import FederatedRounds
from tests.helpers.rounds import EVERY, arguments

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


def test_multi_agent_turns_rewards_and_infos():
    env = FederatedRoundsEnv(arguments("full", rounds=2))
    seen, infos = env.reset()
    assert list(seen) == ["size"]
    assert infos[COMMON]["turn"].situation.round == 1
    for number in (1, 2):
        actions = {agent: env.action_spaces[agent].sample() for agent in seen}
        seen, rewards, terminated, truncated, infos = env.step(actions)
        assert (list(seen), rewards, truncated["__all__"]) == (["intensity"], {}, False)
        last = seen
        seen, rewards, terminated, truncated, infos = env.step({"intensity": np.zeros(4, np.float32)})
        assert set(rewards) == {"size", "intensity"}
        assert rewards == infos[COMMON]["played"].rewards
        assert not terminated["__all__"]
        assert truncated["__all__"] == (number == 2)
    assert set(seen) == {"size", "intensity"}  # who acted sees a last observation
    assert equal(seen["intensity"], last["intensity"])
    assert "turn" not in infos[COMMON]
    with pytest.raises(ActionError, match="no round is open"):
        env.step({"size": actions.get("size")})
    env.close()


@pytest.mark.parametrize("fidelity", ["full", "timing"])
def test_rounds_without_anybody_pass_by_themselves(fidelity):
    words = arguments(fidelity, "delays.availability=0.08", "seed=3", rounds=20)
    plain, multi = FederatedRounds(**words), FederatedRoundsEnv(words)
    plain.action_space.seed(0)
    plain.reset()
    steps = 1
    while not plain.step(plain.action_space.sample())[3]:
        steps += 1
    seen, _ = multi.reset()
    acted, rounds, over = 0, 0, False
    while not over:
        acted += len(seen)
        seen, _, _, truncated, infos = multi.step({a: multi.action_spaces[a].sample() for a in seen})
        rounds += "played" in infos[COMMON]
        over = truncated["__all__"]
    assert rounds == 20
    assert 0 < acted == steps < 2 * 20
    for env in (plain, multi):
        env.close()


def test_a_window_in_which_nobody_ever_comes_is_an_error():
    env = FederatedRounds(**arguments("timing", "delays.availability=0.000001"))
    with pytest.raises(ConfigError, match="nobody is available in any round of the window"):
        env.reset()


def test_windows_of_the_timing_fidelity_go_round_their_populations():
    windows = Windows(**arguments("timing", EVERY, populations=3))
    speeds = [tuple(p.flops_per_s for p in windows.next().rounds.world.profiles) for _ in range(6)]
    assert speeds[:3] == speeds[3:]
    assert len(set(speeds)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fidelity": "fast"}, "fidelity=fast: expected full or timing"),
        ({"rounds": 0}, "rounds=0, populations=1: expected at least 1 each"),
        ({"fidelity": "full", "populations": 2}, "populations=2: expected 1 with fidelity=full"),
        ({"method": "lg_fedavg", "overrides": []}, "lg_fedavg leaves no decisions to agents"),
        ({"overrides": ["method.size_agent=false", "method.intensity_agent=false"]}, "switched off"),
        ({"overrides": ["method.epoch=3"]}, "method.epoch: no such key.*Did you mean epochs"),
        (
            {"overrides": ["model=mclr"]},
            "model.name=mclr comes in one size only.*Choose cnn, mlp, cnn_series or transformer",
        ),
    ],
    ids=str,
)
def test_mistakes_are_refused_with_what_was_expected(changes, message):
    with pytest.raises(ConfigError, match=message):
        FederatedRounds(**{**arguments(), **changes})


def test_rounds_that_were_given_cannot_be_restarted():
    turns = Windows(**arguments()).next()
    env = FederatedRoundsEnv({"turns": turns, "rounds": 2})
    env.reset()
    with pytest.raises(ConfigError, match="these rounds were given to the environment"):
        env.reset(options={"restart": True})


@pytest.mark.slow
def test_rllibs_own_loop_trains_on_it(ray_here):
    from strata.agents.families.learners import rllib_config
    from strata.engine.config.agents import AgentsConfig

    words = arguments("timing", rounds=5)
    control = Windows(**words).control
    config = (
        rllib_config("ppo", control.agents, AgentsConfig(policy="rllib"))
        .environment(FederatedRoundsEnv, env_config=words)
        .training(train_batch_size_per_learner=20)
    )
    algorithm = config.build_algo()
    before = {agent: algorithm.get_module(agent).state_dict() for agent in control.agents}
    before = {agent: {n: v.clone() for n, v in state.items()} for agent, state in before.items()}
    result = algorithm.train()
    for agent in control.agents:
        after = algorithm.get_module(agent).state_dict()
        assert any((after[name] != value).any() for name, value in before[agent].items()), agent
        assert np.isfinite(result["learners"][agent]["total_loss"])
    assert result["env_runners"]["num_episodes"] > 0
    assert result["env_runners"]["episode_return_mean"] < 0
    algorithm.stop()
