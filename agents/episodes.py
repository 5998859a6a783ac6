"""Rounds as RLlib episodes, which is what its learners learn from."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

from strata.agents.families.learners import Specs, own_module
from strata.engine.method.control import AgentId

Value = NDArray[np.generic] | np.generic

Taken = dict[str, Value]
"""By RLlib's name: the observation, the action, its distribution's inputs and its log-probability, of one agent."""

Step = dict[AgentId, Taken]
"""One stage: by agent, what it saw and did."""


class Lived(Protocol):
    """A round: its stages, and what was paid at its end."""

    steps: list[Step]
    rewards: Mapping[AgentId, float]


def episode_of(rounds: Iterable[Lived], specs: Specs) -> MultiAgentEpisode | None:
    """The rounds of some agents as one truncated episode; None when none of them acted.

    Agents act in their stages and are paid at the end of the round. At the end every agent that acted sees its last
    observation once more, which RLlib needs of a truncated one.
    """
    steps: list[tuple[Step, Mapping[AgentId, float]]] = []
    for lived in rounds:
        own = [{agent: taken for agent, taken in step.items() if agent in specs} for step in lived.steps]
        own = [step for step in own if step] if lived.rewards else []
        paid: Mapping[AgentId, float] = {agent: r for agent, r in lived.rewards.items() if agent in specs}
        steps += [(step, paid if number == len(own) - 1 else {}) for number, step in enumerate(own)]
    if not steps:
        return None
    last: dict[AgentId, Value] = {}
    for step, _ in steps:
        last.update({agent: taken[Columns.OBS] for agent, taken in step.items()})
    episode = MultiAgentEpisode(
        observation_space=spaces.Dict({agent: specs[agent].observation_space for agent in specs}),
        action_space=spaces.Dict({agent: specs[agent].action_space for agent in specs}),
        agent_to_module_mapping_fn=own_module,
    )
    episode.add_env_reset(observations=_seen(steps[0][0]))
    for number, (step, paid) in enumerate(steps):
        over = number == len(steps) - 1
        episode.add_env_step(
            observations=last if over else _seen(steps[number + 1][0]),
            actions={agent: taken[Columns.ACTIONS] for agent, taken in step.items()},
            rewards=dict(paid),
            extra_model_outputs={agent: _extras(taken) for agent, taken in step.items()},
            truncateds={"__all__": over},
        )
    return episode


def _seen(step: Step) -> dict[AgentId, Value]:
    return {agent: taken[Columns.OBS] for agent, taken in step.items()}


def _extras(taken: Taken) -> Taken:
    return {key: taken[key] for key in (Columns.ACTION_DIST_INPUTS, Columns.ACTION_LOGP)}
