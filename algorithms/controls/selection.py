"""Decisions of a flat method whose clients are told how long to train: who takes part, and for how long.

Two agents, one after the other:

    selection   sees of each invited client its probe time, its samples and the entropy of its labels; keeps or drops it
    epochs      also sees who was kept; picks each client's local work (epochs, or steps) from a menu

Symbols: k invited clients, E the method's own epochs (or steps), E_i client i's.

Choices of ours, all of them, because the methods that use this have no agents in their papers: where nobody is kept,
everyone is; the menu is 0.6, 1 and 1.4 times E, in whole numbers of at least 1 (3, 5, 7 where E = 5; where E = 1 the
entries coincide, and only the selection matters); both agents are paid the same,

    10 · gain of accuracy − seconds of the round / seconds expected of it were everyone kept at E.

The seconds of a round are those the server waits, probes and lost clients included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import MultiDiscrete
from numpy.typing import NDArray

from strata.engine.method.control import Actions, AgentId, AgentSpec, Control, Observation
from strata.engine.method.features import pad_rows, relative, rows_space
from strata.engine.method.situation import Decisions, Report, Situation

MULTIPLES = (0.6, 1.0, 1.4)  # of the method's own work


@dataclass(frozen=True)
class Prices:
    """What a reward is made of: the worth of accuracy, the cost of a round's relative seconds, and of its uploads.

    ``uploads`` is the cost of keeping all who were invited.
    """

    accuracy: float = 10.0
    latency: float = 1.0
    uploads: float = 0.0


class SelectionControl(Control):
    """The decisions who takes part and for how long; subclasses may change menu, prices and family of learners."""

    heuristics: ClassVar[tuple[str, ...]] = ("uniform", "random", "greedy")
    probes: ClassVar[bool] = True
    learner: ClassVar[Literal["ppo", "vdn"]] = "ppo"

    def make_agents(self) -> dict[AgentId, AgentSpec]:
        """Two agents: "selection" keeps or drops clients, "epochs" sets the local work of the kept ones."""
        k, config = self.cohort, self.method.config
        self.unit, self.default = config.length.unit, config.length.count
        self.menu = np.array(self.options(), np.int64)
        return {
            "selection": AgentSpec(rows_space(k, 5), MultiDiscrete([2] * k), self.learner),
            "epochs": AgentSpec(rows_space(k, 6), MultiDiscrete([len(self.menu)] * k), self.learner),
        }

    def options(self) -> Sequence[int]:
        """The menu of local work."""
        return [max(1, round(multiple * self.default)) for multiple in MULTIPLES]

    def prices(self) -> Prices:
        """What rewards are made of."""
        return Prices()

    def stages(self, situation: Situation) -> Sequence[Sequence[AgentId]]:
        """Selection first; nobody where nobody was invited."""
        return [[agent] for agent in self.agents] if situation.clients else []

    def observe(self, agent: AgentId, situation: Situation, chosen: Actions) -> Observation:
        """The rows of the invited clients: probe time, samples, entropy; for "epochs" also who was kept."""
        infos = [self.infos[client] for client in situation.clients]
        samples = np.array([info.train_samples for info in infos], np.float64)
        entropies = np.array([info.label_entropy for info in infos])
        columns = [*relative(self.probe_s(situation)), relative(samples)[0], entropies]
        if agent == "epochs":
            columns.append(self.kept(situation, chosen).astype(np.float64))
        return pad_rows(columns, self.cohort)

    def decide(self, situation: Situation, chosen: Actions) -> Decisions:
        """The local work of the clients that are kept; the others are left out."""
        plans = zip(situation.clients, self.kept(situation, chosen), self.work(situation, chosen), strict=True)
        return Decisions({client: {self.unit: int(work)} for client, kept, work in plans if kept})

    def rewards(self, situation: Situation, chosen: Actions, report: Report) -> Mapping[AgentId, float]:
        """What both agents are paid, the same: accuracy gained, less relative seconds and uploads at their prices."""
        prices, expected_s = self.prices(), self.expected_s(situation)
        latency = report.round_s / expected_s if expected_s > 0 else 0.0
        uploads = float(self.kept(situation, chosen).mean())
        reward = prices.accuracy * report.gain - prices.latency * latency - prices.uploads * uploads
        return dict.fromkeys(chosen, reward)

    def describe(self, situation: Situation, chosen: Actions) -> Mapping[str, float]:
        """How many are kept, and their mean work."""
        kept = self.kept(situation, chosen)
        return {"kept": float(kept.sum()), f"{self.unit}_mean": float(self.work(situation, chosen)[kept].mean())}

    def suggest(
        self, heuristic: str, agent: AgentId, situation: Situation, chosen: Actions, draws: np.random.Generator
    ) -> Any:
        """The action of a rule to beat.

        ``uniform``: everyone, as long as the method's own default says (the nearest entry of the menu). ``greedy``:
        without the slowest quarter, and the entries nearest to work inversely proportional to probe time.
        """
        if heuristic == "random":
            return super().suggest(heuristic, agent, situation, chosen, draws)
        if heuristic not in self.heuristics:
            raise ValueError(f"{heuristic}: no such rule; expected one of {', '.join(self.heuristics)}")
        k, action = len(situation.clients), np.zeros(self.cohort, np.int64)
        if agent == "selection":
            action[:k] = 1
            if heuristic == "greedy":
                action[np.argsort(self.probe_s(situation), kind="stable")[k - k // 4 :]] = 0
            return action
        shares = np.ones(k)
        if heuristic == "greedy":
            shares = np.exp(-relative(self.probe_s(situation))[1])
            shares /= shares[self.kept(situation, chosen)].mean()
        action[:k] = np.abs(np.log(self.menu / self.default)[None] - np.log(shares)[:, None]).argmin(1)
        return action

    def expected_s(self, situation: Situation) -> float:
        """Seconds of the round were everyone kept at the method's default, from what was last measured."""
        return float(situation.seconds([self.costs.call(client, {}) for client in situation.clients]).max())

    def kept(self, situation: Situation, chosen: Actions) -> NDArray[np.bool_]:
        """Which invited clients take part, ``(k,)``."""
        kept = np.asarray(chosen["selection"][: len(situation.clients)], np.bool_)
        return kept if kept.any() else np.ones_like(kept)

    def work(self, situation: Situation, chosen: Actions) -> NDArray[np.int64]:
        """E_i, the local work of each invited client, ``(k,)``; of no meaning for those who are dropped."""
        return np.asarray(self.menu[np.asarray(chosen["epochs"][: len(situation.clients)])], np.int64)
