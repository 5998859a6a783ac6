"""The multi-agent environment: turns, rounds without anybody, and RLlib's own loop."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence as equal

from strata.engine.errors import ActionError, ConfigError
from strata.engine.method.control import COMMON
from strata.envs.multi_agent import FederatedRoundsEnv
from strata.envs.opening import Windows
from strata.envs.plain import FederatedRounds
from tests.helpers.rounds import arguments


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


@pytest.mark.slow
@pytest.mark.parametrize("runners", [0, 1])
def test_rllibs_own_ppo_with_its_own_networks_trains_on_it(ray_here, runners):
    from ray.rllib.algorithms.ppo import PPOConfig

    words = {**arguments("timing", rounds=5, episodes="restart"), "observations": "flat"}
    agents = FederatedRoundsEnv(words).possible_agents
    config = (
        PPOConfig()
        .environment(FederatedRoundsEnv, env_config=words)
        .multi_agent(policies=agents, policy_mapping_fn=lambda agent, *args, **kwargs: agent)
        .env_runners(num_env_runners=runners, rollout_fragment_length=10)
        .training(train_batch_size_per_learner=20, minibatch_size=10, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        result = algorithm.train()
    finally:
        algorithm.stop()
    assert set(result["learners"]) >= set(agents)
    assert all(np.isfinite(result["learners"][agent]["total_loss"]) for agent in agents)
    assert result["env_runners"]["num_episodes"] > 0
    assert result["env_runners"]["episode_return_mean"] < 0


def test_flat_observations_are_the_rows_one_after_the_other():
    env, rows = FederatedRoundsEnv({**arguments(), "observations": "flat"}), FederatedRoundsEnv(arguments())
    seen, expected = env.reset()[0]["size"], rows.reset()[0]["size"]
    np.testing.assert_array_equal(seen, expected.ravel())
    assert env.observation_spaces["size"].contains(seen)
    with pytest.raises(ConfigError, match="observations=square: expected rows or flat"):
        FederatedRoundsEnv({**arguments(), "observations": "square"})
