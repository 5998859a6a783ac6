"""One round at a time, agent by agent: what all environments are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.shared_links import SharedLink
from strata.engine.errors import ActionError
from strata.engine.method.calls import FloatArray
from strata.engine.method.control import AGENTS, REWARD, Actions, AgentId, Control, Observation, curve_of
from strata.engine.method.situation import Report, RoundSource, Situation


@dataclass(frozen=True)
class Turn:
    """Who acts now, and what they see. Without observations nobody was invited; play on with no actions.

    Attributes:
        observations: by agent.
        situation: what the server knows.
        chosen: actions of the stages before.
    """

    observations: Mapping[AgentId, Observation]
    situation: Situation
    chosen: Actions


@dataclass(frozen=True)
class Played:
    """What a round came to.

    Attributes:
        rewards: of every agent that acted.
        report: what came of the round.
        metrics: rewards and decisions as numbers for curves, named ``agents/…``.
    """

    rewards: Mapping[AgentId, float]
    report: Report
    metrics: Mapping[str, float]


MEASURED = ("latency_s", "s_per_flop", "s_per_byte_down", "s_per_byte_up")


@dataclass
class Memory:
    """What the server remembers of each client between rounds, arrays of ``(N,)``; NaN where it knows nothing."""

    latency_s: FloatArray
    s_per_flop: FloatArray
    s_per_byte_down: FloatArray
    s_per_byte_up: FloatArray
    metrics: dict[str, FloatArray] = field(default_factory=dict)
    accuracy: float | None = None

    @classmethod
    def empty(cls, clients: int) -> "Memory":
        """Nothing known of ``clients`` clients."""
        latency, flop, down, up = (np.full(clients, np.nan) for _ in range(4))
        return cls(latency, flop, down, up)

    def unknown(self, clients: Sequence[int]) -> list[int]:
        """Those of some clients that were never seen to compute, in their order."""
        rows = np.asarray(clients, np.int64)
        unknown: list[int] = rows[np.isnan(self.s_per_flop[rows])].tolist()
        return unknown

    def learn(self, report: Report) -> None:
        """Take over what calls have shown: times of all that were not lost, metrics of those whose upload counted."""
        calls = report.calls.where(~report.calls.lost)
        self.latency_s[calls.client] = calls.latency_s
        for known, seconds, amount in (
            (self.s_per_flop, calls.compute_s, calls.flops),
            (self.s_per_byte_down, calls.download_s, calls.bytes_down),
            (self.s_per_byte_up, calls.upload_s, calls.bytes_up),
        ):
            told = amount > 0
            known[calls.client[told]] = seconds[told] / amount[told]
        for name, values in calls.metrics.items():
            known = self.metrics.setdefault(name, np.full(len(self.s_per_flop), np.nan))
            known[calls.client[calls.completed]] = values[calls.completed]
        self.accuracy = self.accuracy if report.accuracy is None else report.accuracy

    def situation(self, round: int, clients: Sequence[int], link: SharedLink | None = None) -> Situation:
        """What the server knows of the invited clients when a round begins.

        What transfers have taken on a ``link`` that clients share tells of those who were called with them. There the
        server knows what each client can do alone, once it was measured at all.
        """
        rows = np.asarray(clients, np.int64)
        down, up = self.s_per_byte_down[rows], self.s_per_byte_up[rows]
        if link is not None:
            never = np.isnan(down)
            down, up = (np.where(never, np.nan, own) for own in link.s_per_byte(clients))
        return Situation(
            round=round,
            clients=clients,
            latency_s=self.latency_s[rows],
            s_per_flop=self.s_per_flop[rows],
            # A probe uploads nothing: until a client has, its download stands for its upload.
            s_per_byte_down=down,
            s_per_byte_up=np.where(np.isnan(up), down, up),
            metrics={name: values[rows] for name, values in self.metrics.items()},
            accuracy=self.accuracy,
            everyone={name: _shown(values) for name, values in self.metrics.items()},
            link=link,
        )


class Turns:
    """Plays rounds with a control: invites, probes whom it has never measured, asks stage by stage, pays."""

    def __init__(self, rounds: RoundSource, control: Control, clients: int, link: SharedLink | None = None) -> None:
        """``clients``: N, of the whole federation; ``link``: what they share of their servers' links, if anything."""
        self.rounds, self.control, self._link = rounds, control, link
        self.memory = Memory.empty(clients)
        self._turn: Turn | None = None
        self._stages: list[Sequence[AgentId]] = []

    def open(self) -> Turn:
        """Begin the next round: its first turn. Asking again before anybody has acted gives the same."""
        if self._turn is not None and not self._turn.chosen:
            return self._turn
        clients = self.rounds.invite()
        if self.control.probes and self.control.agents:
            unknown = self.memory.unknown(clients)
            if unknown:
                self.memory.learn(self.rounds.probe(unknown))
        situation = self.memory.situation(self.rounds.round + 1, clients, self._link)
        self._stages = list(self.control.stages(situation))
        self._turn = self._ask(situation, {})
        return self._turn

    def act(self, actions: Actions) -> Turn | Played:
        """Take the actions of the present turn; gives the next one, or the round's result after the last.

        Raises:
            ActionError: naming agent and round, when an action is missing, uncalled for or outside its space. The turn
                stays as it was.
        """
        turn = self._turn
        if turn is None:
            raise ActionError("no round is open; reset the environment first.")
        taken = self._checked(actions, turn)
        self._stages = self._stages[1:]
        chosen = {**turn.chosen, **taken}
        if self._stages:
            self._turn = self._ask(turn.situation, chosen)
            return self._turn
        self._turn = None
        return self._play(turn.situation, chosen)

    def _ask(self, situation: Situation, chosen: Actions) -> Turn:
        now = self._stages[0] if self._stages else ()
        return Turn({agent: self.control.observe(agent, situation, chosen) for agent in now}, situation, chosen)

    def _play(self, situation: Situation, chosen: Actions) -> Played:
        if not situation.clients or not chosen:
            report = self.rounds.play(None)
            self.memory.learn(report)
            return Played({}, report, {})
        report = self.rounds.play(self.control.decide(situation, chosen))
        if report.accuracy is not None and self.memory.accuracy is not None:
            report = replace(report, gain=report.accuracy - self.memory.accuracy)
        rewards = dict(self.control.rewards(situation, chosen, report))
        described = {f"{AGENTS}{name}": value for name, value in self.control.describe(situation, chosen).items()}
        self.memory.learn(report)
        return Played(rewards, report, {**_average(rewards), **described})

    def _checked(self, actions: Actions, turn: Turn) -> dict[AgentId, NDArray[np.generic]]:
        round, expected = turn.situation.round, set(turn.observations)
        if set(actions) != expected:
            raise ActionError(
                f"round {round}: expected actions of {', '.join(sorted(expected)) or 'nobody'}, got some of "
                f"{', '.join(sorted(actions)) or 'nobody'}."
            )
        taken = {}
        for agent in turn.observations:
            space = self.control.agents[agent].action_space
            try:
                action = np.asarray(actions[agent])
            except ValueError:  # lists of unequal lengths
                action = np.asarray(None)
            if action.shape == space.shape and np.can_cast(action.dtype, space.dtype or float, "same_kind"):
                action = action.astype(space.dtype)
            if not space.contains(action):
                raise ActionError(f"agent {agent}, round {round}: expected an action in {space}, got {actions[agent]}.")
            taken[agent] = action
        return taken

    def state(self) -> dict[str, object]:
        """What is remembered, as a tree of numbers, between two rounds; only of clients of whom something is known."""
        known = self.memory
        clients = np.flatnonzero(~np.isnan(known.latency_s))
        lists = {name: getattr(known, name)[clients].tolist() for name in MEASURED}
        metrics = {name: values[clients].tolist() for name, values in known.metrics.items()}
        return {"clients": clients.tolist(), **lists, "metrics": metrics, "accuracy": known.accuracy}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` gave."""
        everyone = len(self.memory.latency_s)

        def spread(values: Sequence[float]) -> FloatArray:
            column = np.full(everyone, np.nan)
            column[state["clients"]] = values
            return column

        metrics = {name: spread(values) for name, values in state["metrics"].items()}
        measured = {name: spread(state[name]) for name in MEASURED}
        self.memory = Memory(**measured, metrics=metrics, accuracy=state["accuracy"])
        self._turn = None


def _shown(values: FloatArray) -> FloatArray:
    """The same numbers, which whoever is shown them cannot change."""
    view = values.view()
    view.flags.writeable = False
    return view


def _average(rewards: Mapping[AgentId, float], limit: int = 8) -> dict[str, float]:
    """Each agent's reward, or, where there are many agents, the mean."""
    if len(rewards) > limit:
        return {f"{AGENTS}{REWARD}": float(np.mean(list(rewards.values())))}
    return {curve_of(agent, REWARD): float(reward) for agent, reward in rewards.items()}
