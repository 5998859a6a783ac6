"""Rounds as episodes: who saw, did and was paid what, and when."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from ray.rllib.core.columns import Columns

from strata.agents.episodes import episode_of
from tests.helpers.toys import arms

SPECS = {"a": arms(k=1), "b": arms(k=1)}


@dataclass
class Lived:
    steps: list = field(default_factory=list)
    rewards: dict = field(default_factory=dict)


def taken(number):
    """What an agent saw and did; ``number`` tells which."""
    return {
        Columns.OBS: np.full((1, 4), number, np.float32),
        Columns.ACTIONS: np.array([number % 3]),
        Columns.ACTION_DIST_INPUTS: np.full(3, 10 + number, np.float32),
        Columns.ACTION_LOGP: np.float32(-number),
    }


def story(episode):
    """By agent: what it saw, did, and was paid, as numbers."""
    return {
        agent: (
            [float(seen[0, 0]) for seen in own.get_observations()],
            [int(action[0]) for action in own.get_actions()],
            [float(reward) for reward in own.get_rewards()],
        )
        for agent, own in episode.agent_episodes.items()
    }


def test_agents_act_in_their_stages_are_paid_at_the_rounds_end_and_see_their_last_observation_twice():
    rounds = [
        Lived([{"a": taken(1)}, {"b": taken(2)}], {"a": 0.5, "b": -1.0}),
        Lived([{"a": taken(4)}, {"b": taken(5)}], {"a": 0.25, "b": 2.0}),
    ]
    episode = episode_of(rounds, SPECS)
    assert story(episode) == {"a": ([1, 4, 4], [1, 1], [0.5, 0.25]), "b": ([2, 5, 5], [2, 2], [-1.0, 2.0])}
    assert episode.is_truncated
    assert not episode.is_terminated
    own = episode.agent_episodes["b"]
    assert [float(value) for value in own.get_extra_model_outputs(Columns.ACTION_LOGP)] == [-2.0, -5.0]
    assert own.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)[1].tolist() == [15.0] * 3


def test_agents_of_one_stage_act_together():
    episode = episode_of([Lived([{"a": taken(1), "b": taken(2)}], {"a": 1.0, "b": 2.0})], SPECS)
    assert story(episode) == {"a": ([1, 1], [1], [1.0]), "b": ([2, 2], [2], [2.0])}
    assert len(episode) == 1


def test_others_agents_are_left_out_with_their_stages_and_rewards():
    rounds = [Lived([{"z": taken(7)}, {"a": taken(1), "y": taken(8)}, {"z": taken(9)}], {"a": 1.0, "y": 3.0, "z": 4.0})]
    episode = episode_of(rounds, SPECS)
    assert story(episode) == {"a": ([1, 1], [1], [1.0])}
    assert len(episode) == 1


def test_a_round_that_paid_nobody_is_not_learnt_from():
    rounds = [Lived([{"a": taken(1)}], {}), Lived([{"a": taken(2)}], {"a": 1.0}), Lived()]
    assert story(episode_of(rounds, SPECS)) == {"a": ([2, 2], [2], [1.0])}


@pytest.mark.parametrize("rounds", [[], [Lived()], [Lived([{"z": taken(1)}], {"z": 1.0})]])
def test_there_is_no_episode_where_nobody_acted(rounds):
    assert episode_of(rounds, SPECS) is None
