"""The loop that drives an environment with policies, round by round."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from strata.agents.policies import Policies
from strata.engine.method.control import COMMON, Actions, AgentId, Observation
from strata.engine.method.situation import Report

Infos = Mapping[str, Mapping[str, Any]]
"""RLlib's: whatever an environment tells of its agents, and under ``COMMON`` of the turn and the round."""

Stepped = tuple[Mapping[AgentId, Observation], Mapping[AgentId, float], Mapping[str, bool], Mapping[str, bool], Infos]
"""Observations, rewards, terminations, truncations, infos."""


class TurnBasedEnv(Protocol):
    """What the loop needs of an environment: RLlib's multi-agent interface, with turns in its infos."""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Mapping[AgentId, Observation], Infos]:
        """Observations of the first turn, and infos."""

    def step(self, action_dict: Actions) -> Stepped:
        """Observations, rewards, terminations, truncations, infos."""


class Played(Protocol):
    """An environment's account of a round."""

    @property
    def report(self) -> Report:
        """What came of it."""

    @property
    def rewards(self) -> Mapping[AgentId, float]:
        """What everyone who acted was paid."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers worth a curve."""


@dataclass(frozen=True)
class RoundResult:
    """What came of a round: the environment's account of it, curves, and the wall seconds spent in the agents."""

    played: Played
    metrics: Mapping[str, float]
    agents_s: float


class Driver:
    """Plays an environment with some policies, window after window."""

    def __init__(self, env: TurnBasedEnv, policies: Policies) -> None:
        """Keep environment and policies; no window is opened before the first round."""
        self._env, self._policies = env, policies
        self._info: Mapping[str, Any] | None = None
        self._seen: Mapping[AgentId, Observation] = {}

    def run_round(self) -> RoundResult:
        """Play one round to its end, and let the policies learn from it."""
        if self._info is None:
            self._seen, infos = self._env.reset()
            self._info = infos[COMMON]
        agents_s = 0.0
        while True:
            turn = self._info["turn"]
            began = time.perf_counter()
            actions = self._policies.act(turn.situation.round, turn.situation, turn.chosen, self._seen)
            agents_s += time.perf_counter() - began
            self._seen, rewards, _, over, infos = self._env.step(actions)
            self._info = infos[COMMON]
            if "played" in self._info:
                break
        played: Played = self._info["played"]
        if over["__all__"]:
            self._info = None
        began = time.perf_counter()
        learnt = self._policies.learn(turn.situation.round, rewards)
        agents_s += time.perf_counter() - began
        return RoundResult(played, {**played.metrics, **learnt}, agents_s)

    def forget(self) -> None:
        """Open a new window before the next round: the environment was moved from outside."""
        self._info = None
