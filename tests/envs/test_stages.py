"""Rounds stage by stage: what each step shows, pays and ends."""

import numpy as np
import pytest
from gymnasium import spaces

from strata.engine.errors import ActionError, ConfigError
from strata.engine.method.control import COMMON
from strata.envs.stages import StagedRounds
from tests.helpers.toys import arms, turns

K = 4
AGENTS = {"first": arms(K), "second": arms(K)}


def staged(agents=AGENTS, rounds=2, cohorts=()):
    return StagedRounds({"turns": turns(agents, K, cohorts), "rounds": rounds})


def acted(environment, seen):
    return environment.step({agent: np.zeros(K, np.int64) for agent in seen})


def test_agents_and_spaces_are_those_of_the_control():
    environment = staged()
    assert environment.agents == environment.possible_agents == ["first", "second"]
    assert environment.action_spaces == {agent: spec.action_space for agent, spec in AGENTS.items()}
    assert environment.observation_space == spaces.Dict({a: spec.observation_space for a, spec in AGENTS.items()})
    observations, _ = environment.reset()
    assert environment.observation_spaces["first"].contains(observations["first"])


def test_a_stage_is_a_step_and_all_are_paid_after_the_last():
    environment = staged()
    first, infos = environment.reset()
    assert set(first) == {"first"}
    assert infos[COMMON]["turn"].situation.round == 1
    second, rewards, ended, over, infos = acted(environment, first)
    assert (set(second), rewards) == ({"second"}, {})
    assert (ended, over) == ({"__all__": False}, {"__all__": False})
    assert "played" not in infos[COMMON]
    assert set(infos[COMMON]["turn"].chosen) == {"first"}
    following, rewards, _, over, infos = acted(environment, second)
    assert (set(following), set(rewards), over) == ({"first"}, {"first", "second"}, {"__all__": False})
    assert rewards == infos[COMMON]["played"].rewards
    assert infos[COMMON]["turn"].situation.round == 2


def test_at_a_windows_end_whoever_acted_sees_its_last_observation_again_and_nothing_is_opened():
    environment = staged(rounds=1)
    first, _ = environment.reset()
    second = acted(environment, first)[0]
    last, _, ended, over, infos = acted(environment, second)
    assert (ended["__all__"], over["__all__"]) == (False, True)
    assert set(last) == {"first", "second"}
    assert last["first"] is first["first"]
    assert last["second"] is second["second"]
    assert set(infos[COMMON]) == {"played"}


def test_the_next_window_goes_on_where_the_last_one_ended_and_shows_nothing_of_it():
    environment = staged(agents={"first": arms(K)}, rounds=1, cohorts=[[0, 1], []])
    acted(environment, environment.reset()[0])
    observations, infos = environment.reset()
    assert (observations, infos[COMMON]["turn"].situation.round) == ({}, 2)
    last, rewards, _, over, _ = environment.step({})
    assert (last, rewards, over["__all__"]) == ({}, {}, True)  # nobody came, so nobody acted in this window


def test_given_rounds_are_not_begun_anew():
    with pytest.raises(ConfigError, match="restart: these rounds were given"):
        staged().reset(options={"restart": True})


def test_uncalled_actions_are_refused_and_the_turn_stays():
    environment = staged()
    first, _ = environment.reset()
    with pytest.raises(ActionError, match="round 1: expected actions of first, got some of second"):
        acted(environment, ["second"])
    assert set(acted(environment, first)[0]) == {"second"}


def test_a_step_needs_a_window():
    with pytest.raises(AssertionError, match="reset the environment first"):
        staged().step({})
