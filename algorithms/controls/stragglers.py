"""HAPFL's decisions: model sizes and training intensities against stragglers, and aggregation weights.

Two layouts divide them among two agents:

``size+intensity`` (the default)
    π_s ("size") sees each client's probe time and picks its size class; π_E ("intensity") also sees the sizes and the
    times expected of them, and shares out the total intensity k·E_default.
``allocation+aggregation``
    "allocation" picks size class and intensity at once, from a menu; "aggregation" sees entropies, samples, accuracies
    and sizes, and sets the weights of the uploads.

Symbols: k clients, S sizes, p_i probe time, T̂_i expected and T_i observed seconds of a client.

Rewards: size −(max T̂ − min T̂)/mean T̂ under equal intensity, which credits the sizes alone; intensity and allocation
−(max T − min T)/mean T (+ η · gain of accuracy for the intensity); aggregation the gain of accuracy. All of it, and the
features, are choices of ours: the paper says only that rewards fall with straggling latency. Everyone is given
one epoch, and the shares divide the rest, in whole numbers by largest remainders; so the total is kept exactly.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray

from strata.algorithms.controls.allocation import tightest
from strata.engine.data.apportion import apportion
from strata.engine.data.capacity import require_memory
from strata.engine.errors import ConfigError
from strata.engine.method.calls import FloatArray
from strata.engine.method.control import Actions, AgentId, AgentSpec, Control, Observation
from strata.engine.method.features import pad_rows, relative, rows_space
from strata.engine.method.messages import Assignment
from strata.engine.method.situation import Decisions, Report, Situation

LR = 3e-3  # of all agents: large, because a run has few rounds to learn from
BOUND = 3.0  # of the logits of shares: e^6, so one client may get up to 400 times another's
CELL_BYTES = 64  # of "optimum": what the times of a client at a size and an intensity take while they are compared
MENU = (0.25, 0.5, 1.0, 2.0, 4.0)  # of "allocation": intensity relative to the others'

SIZE, WEIGHT = "size", "weight"
"""What a client is told: the number of its size class; the weight that its upload will have, where an agent sets it."""
VALIDATION_ACCURACY = "validation_accuracy"
"""Metric of a call: the accuracy (0..1) of the local model on the client's validation data."""


class StragglerControl(Control):
    """The decisions of methods whose clients are told ``size`` and ``epochs`` or ``steps``, against stragglers."""

    layouts: ClassVar[tuple[str, ...]] = ("size+intensity", "allocation+aggregation")
    heuristics: ClassVar[tuple[str, ...]] = ("uniform", "random", "greedy", "optimum")
    enumerating: ClassVar[tuple[str, ...]] = ("optimum",)
    probes: ClassVar[bool] = True

    def make_agents(self) -> dict[AgentId, AgentSpec]:
        """The agents of the layout that are switched on, by name.

        Raises:
            ConfigError: when an agent is switched off that the layout does not have.
        """
        k, config = self.cohort, self.method.config
        self.unit, self.default = config.length.unit, config.length.count
        self.sizes = sizes = len(config.pool)
        self._evenly: tuple[Situation | None, bytes, FloatArray] = (None, b"", np.zeros(0))
        self._probed: tuple[Situation | None, Sequence[FloatArray]] = (None, ())
        times, shares = rows_space(k, 3), Box(-BOUND, BOUND, (k,), np.float32)
        if self.layout == "size+intensity":
            specs = {
                "size": AgentSpec(times, MultiDiscrete([sizes] * k), lr=LR),
                "intensity": AgentSpec(rows_space(k, 5 + sizes), shares, lr=LR),
            }
            switched_on = {"size": config.size_agent, "intensity": config.intensity_agent}
            return {agent: spec for agent, spec in specs.items() if switched_on[agent]}
        for key in ("size_agent", "intensity_agent"):
            if not getattr(config, key):
                raise ConfigError(
                    f"method.{key}=false switches an agent off that agents.layout={self.layout} does not have. Set "
                    "agents.layout=size+intensity."
                )
        return {
            "allocation": AgentSpec(times, MultiDiscrete([sizes, len(MENU)] * k), lr=LR),
            "aggregation": AgentSpec(rows_space(k, 4 + sizes), shares, lr=LR),
        }

    def stages(self, situation: Situation) -> Sequence[Sequence[AgentId]]:
        """One agent after the other; nobody where nobody was invited."""
        return [[agent] for agent in self.agents] if situation.clients else []

    def observe(self, agent: AgentId, situation: Situation, chosen: Actions) -> Observation:
        """The rows of the invited clients, as the agent sees them."""
        if agent == "aggregation":
            return pad_rows(self._standing(situation, chosen), self.cohort)
        if self._probed[0] is not situation:  # which both agents are shown
            self._probed = situation, relative(self.probe_s(situation))
        columns = [*self._probed[1]]
        if agent == "intensity":
            sizes = self._sizes(situation, chosen)
            expected_s = self._evenly_s(situation, sizes)
            columns += [*np.eye(self.sizes)[sizes].T, *relative(expected_s)]
        return pad_rows(columns, self.cohort)

    def _standing(self, situation: Situation, chosen: Actions) -> list[FloatArray]:
        infos = [self.infos[client] for client in situation.clients]
        entropies = np.array([info.label_entropy for info in infos])
        samples = np.array([info.train_samples for info in infos], np.float64)
        unknown = np.full(len(infos), np.nan)
        accuracies = np.nan_to_num(situation.metrics.get(VALIDATION_ACCURACY, unknown))
        sizes = self._sizes(situation, chosen)
        return [entropies, samples / samples.mean() - 1, accuracies, *np.eye(self.sizes)[sizes].T]

    def decide(self, situation: Situation, chosen: Actions) -> Decisions:
        """Size class and intensity of each client, and its weight where an agent sets it."""
        sizes, intensities = self._sizes(situation, chosen), self._intensities(situation, chosen)
        plans = zip(situation.clients, sizes.tolist(), intensities.tolist(), strict=True)
        told: dict[int, Assignment] = {c: {SIZE: size, self.unit: intensity} for c, size, intensity in plans}
        if "aggregation" in chosen:
            weights = softmax(np.asarray(chosen["aggregation"][: len(told)], np.float64))
            told = {c: {**t, WEIGHT: float(w)} for (c, t), w in zip(told.items(), weights, strict=True)}
        return Decisions(told)

    def rewards(self, situation: Situation, chosen: Actions, report: Report) -> Mapping[AgentId, float]:
        """What each agent that acted is paid: evenness of seconds, gain of accuracy, or both."""
        sizes = self._sizes(situation, chosen)
        expected = self._evenly_s(situation, sizes)
        evenness = -spread(report.calls.total_s[~report.calls.lost])
        rewards = {
            "size": -spread(expected),
            "intensity": evenness + self.method.config.accuracy_reward * report.gain,
            "allocation": evenness,
            "aggregation": report.gain,
        }
        return {agent: rewards[agent] for agent in chosen}

    def describe(self, situation: Situation, chosen: Actions) -> Mapping[str, float]:
        """Mean size class, and how far the intensities reach."""
        sizes = self._sizes(situation, chosen).tolist()
        intensities = self._intensities(situation, chosen).tolist()
        return {
            "size_mean": sum(sizes) / len(sizes),
            f"{self.unit}_min": float(min(intensities)),
            f"{self.unit}_max": float(max(intensities)),
        }

    def suggest(
        self, heuristic: str, agent: AgentId, situation: Situation, chosen: Actions, draws: np.random.Generator
    ) -> Any:
        """The action of a rule to beat.

        ``uniform``: the default size, equal intensity. ``greedy``: the default size, intensity inversely proportional
        to probe time. ``optimum``: the sizes and intensities whose expected times lie closest together, exactly; where
        clients share their server's link, by the times that each would take if all chose as it does.
        """
        if heuristic == "random":
            return super().suggest(heuristic, agent, situation, chosen, draws)
        if agent == "aggregation":
            return np.zeros(self.cohort, np.float32)
        sizes, intensities = self._rule(heuristic, situation)
        action = np.zeros(self.cohort, np.float32)
        if agent == "intensity":
            action[: len(sizes)] = self._logits(intensities)
            return action
        padded = np.zeros(self.cohort, np.int64)
        padded[: len(sizes)] = sizes
        if agent == "size":
            return padded
        nearest = np.abs(np.log(np.array(MENU))[None] - np.log(intensities / intensities.mean())[:, None]).argmin(1)
        choices = np.zeros((self.cohort, 2), np.int64)
        choices[:, 0], choices[: len(nearest), 1] = padded, nearest
        return choices.reshape(-1)

    def _logits(self, intensities: FloatArray) -> FloatArray:
        """The action that comes closest to intensities in these proportions: one each is given, the rest is shared."""
        wanted = intensities / intensities.mean() * self.default
        shared = np.maximum(wanted - 1, 1e-3)
        return np.asarray(np.clip(np.log(shared / shared.mean()), -BOUND, BOUND))

    def _rule(self, heuristic: str, situation: Situation) -> tuple[NDArray[np.int64], FloatArray]:
        k = len(situation.clients)
        sizes = np.full(k, self.method.config.default_size)
        if heuristic == "uniform":
            return sizes, np.ones(k)
        if heuristic == "greedy":
            return sizes, np.exp(-relative(self.probe_s(situation))[1])
        if heuristic != "optimum":
            raise ValueError(f"{heuristic}: no such rule; expected one of {', '.join(self.heuristics)}")
        total = k * self.default
        require_memory(
            CELL_BYTES * k * self.sizes * (total - k + 1),
            f"agents.policy={heuristic}, for {k} clients with {total:,} {self.unit} between them",
            f"Lower method.{self.unit}, or take greedy.",
        )
        options = [
            [self.expected_s(situation, [size] * k, [intensity] * k) for intensity in range(1, total - k + 2)]
            for size in (range(self.sizes) if self._allocates_sizes else [self.method.config.default_size])
        ]
        found, intensities = tightest(np.array(options).transpose(2, 0, 1), total)
        return (found if self._allocates_sizes else sizes), intensities.astype(np.float64)

    @property
    def _allocates_sizes(self) -> bool:
        return "size" in self.agents or "allocation" in self.agents

    def expected_s(self, situation: Situation, sizes: Sequence[int], intensities: Sequence[int]) -> FloatArray:
        """T̂ ``(k,)`` of given sizes and intensities, from what was last measured."""
        plans = zip(situation.clients, sizes, intensities, strict=True)
        return situation.seconds([self.costs.call(c, {SIZE: s, self.unit: e}) for c, s, e in plans])

    def _evenly_s(self, situation: Situation, sizes: NDArray[np.int64]) -> FloatArray:
        """T̂ ``(k,)`` of given sizes under equal intensity; of the last that was asked for it is remembered."""
        told = sizes.tobytes()
        if self._evenly[0] is not situation or self._evenly[1] != told:
            self._evenly = situation, told, self.expected_s(situation, sizes.tolist(), [self.default] * len(sizes))
        return self._evenly[2]

    def _sizes(self, situation: Situation, chosen: Actions) -> NDArray[np.int64]:
        k = len(situation.clients)
        if "size" in chosen:
            return np.asarray(chosen["size"][:k], np.int64)
        if "allocation" in chosen:
            return np.asarray(chosen["allocation"][::2][:k], np.int64)
        return np.full(k, self.method.config.default_size)

    def _intensities(self, situation: Situation, chosen: Actions) -> NDArray[np.int64]:
        k = len(situation.clients)
        if "intensity" in chosen:
            return _apportioned(k * self.default, np.asarray(chosen["intensity"][:k], np.float64).tobytes(), softmax)
        shares = np.ones(k)
        if "allocation" in chosen:
            shares = np.array(MENU)[chosen["allocation"][1::2][:k]]
        return _apportioned(k * self.default, shares.tobytes())


@lru_cache(maxsize=16)
def _apportioned(total: int, told: bytes, shares: Callable[[FloatArray], FloatArray] = np.asarray) -> NDArray[np.int64]:
    """The intensities of ``shares`` of what was told ``(k,)``, one for everyone first; a round asks several times."""
    counts = apportion(total, shares(np.frombuffer(told)), floor=1)
    counts.flags.writeable = False
    return counts


def softmax(logits: FloatArray) -> FloatArray:
    """e^z / Σ e^z of logits ``(k,)``: shares that add up to 1."""
    powers = np.exp(logits - np.maximum.reduce(logits))
    return np.asarray(powers / np.add.reduce(powers))


def spread(seconds: FloatArray) -> float:
    """(max − min) / mean of the participants' seconds; 0 for fewer than two, and where no time passes."""
    if len(seconds) < 2:
        return 0.0
    each = seconds.tolist()  # of which most and least are found in a third of the time
    most, least = max(each), min(each)
    return 0.0 if most <= 0 else float((most - least) / (np.add.reduce(seconds) / len(seconds)))
