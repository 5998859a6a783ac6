"""Who makes the decisions of a round: the protocol, and a method's own rules.

Learnt policies are in :mod:`strata.agents.rllib_policies`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from strata.engine.method.control import Actions, AgentId, Control, Observation
from strata.engine.method.situation import Situation
from strata.engine.seeding import generator


class Policies(Protocol):
    """Makes decisions, stage by stage, and may learn from what they are paid."""

    def act(self, round: int, situation: Situation, chosen: Actions, seen: Mapping[AgentId, Observation]) -> Actions:
        """The actions of one stage's agents."""

    def learn(self, round: int, rewards: Mapping[AgentId, float]) -> Mapping[str, float]:
        """Take the round's rewards; gives numbers worth a curve."""

    def state(self) -> Any:
        """All that the next round depends on, as a tree of tensors, numbers and text."""

    def restore(self, state: object) -> None:
        """Continue from what :meth:`state` gave."""


class RulePolicies:
    """One of a method's own rules, for every agent; see :meth:`strata.engine.method.control.Control.suggest`."""

    def __init__(self, rule: str, control: Control, seed: int) -> None:
        """``seed``: of the run; each decision's draws derive from it."""
        self._rule, self._control, self._seed = rule, control, seed

    def act(self, round: int, situation: Situation, chosen: Actions, seen: Mapping[AgentId, Observation]) -> Actions:
        """What the rule suggests to each agent."""
        return {
            agent: self._control.suggest(
                self._rule, agent, situation, chosen, generator(self._seed, "agents", self._rule, agent, round)
            )
            for agent in seen
        }

    def learn(self, round: int, rewards: Mapping[AgentId, float]) -> Mapping[str, float]:
        """Learn nothing: a rule stays as it is."""
        return {}

    def state(self) -> object:
        """The state of a rule: None, because it is the same in every round."""
        return None

    def restore(self, state: object) -> None:
        """Restore nothing: a rule has no state."""
