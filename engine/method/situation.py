"""What is known before a round's decisions, what was decided, and what came of it; in numpy.

# k clients invited to a round, n client calls
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from strata.engine.clock.shared_links import SharedLink
from strata.engine.method.calls import CallTable, FloatArray
from strata.engine.method.messages import Assignment


@dataclass(frozen=True)
class CallCost:
    """What one client call costs, known before it is made: bytes both ways and FLOPs."""

    bytes_down: int
    bytes_up: int
    flops: int


class Costs(Protocol):
    """Cost of any call, counted without training; see :class:`strata.engine.rounds.costs.CallCosts`."""

    def call(self, client: int, assignment: Assignment) -> CallCost:
        """Cost of a client's call under an assignment (on top of the method's default)."""

    def probe(self, client: int) -> CallCost:
        """Cost of a client's probe."""


@dataclass(frozen=True)
class Decisions:
    """What the agents of a round decided.

    Attributes:
        clients: who takes part, and what each is told.
        server: what the global server itself does; nothing decided: as by default.
        teams: what each team is told, by team id; teams that are not named do as by default, and what is decided for
            one that is not invited ends with the round. Only for a method that says so, by ``tells_teams``.
    """

    clients: Mapping[int, Assignment]
    server: Assignment = field(default_factory=dict)
    teams: Mapping[int, Assignment] = field(default_factory=dict)


@dataclass(frozen=True)
class Situation:
    """What the global server knows when a round begins; arrays have one entry per invited client.

    Attributes:
        round: 1 for the first.
        clients: ids, ascending, ``(k,)``.
        latency_s, s_per_flop, s_per_byte_down, s_per_byte_up: as last measured, ``(k,)``; NaN where never. Seconds per
            byte are those with the link to oneself where clients share their server's.
        metrics: what clients last reported, by name, ``(k,)`` each; NaN where never.
        accuracy: of the last evaluated round, None before the first.
        everyone: ``metrics`` of all N clients of the federation, ``(N,)`` each, by client id. These are read-only, and
            show what is learnt later as well: copies, in each round, would be the work of all N.
        link: the link that the clients share; None where each has its server's rates to itself.
    """

    round: int
    clients: Sequence[int]
    latency_s: FloatArray
    s_per_flop: FloatArray
    s_per_byte_down: FloatArray
    s_per_byte_up: FloatArray
    metrics: Mapping[str, FloatArray] = field(default_factory=dict)
    accuracy: float | None = None
    everyone: Mapping[str, FloatArray] = field(default_factory=dict)
    link: SharedLink | None = None

    def seconds(self, costs: Sequence[CallCost]) -> FloatArray:
        """Expected seconds of each invited client for calls of these costs, ``(k,)``.

        Where clients share their server's link these are what the virtual clock charges if all of them are called
        together and nobody else is on a call, but for chance in computing.
        """
        table = np.array([(c.bytes_down, c.flops, c.bytes_up) for c in costs], np.float64).reshape(-1, 3)
        down, compute, up = table.T * self._rates
        if self.link is not None:
            return self.link.total_s(self.clients, np.stack([self.latency_s, down, compute, up], 1))
        return np.asarray(self.latency_s + down + compute + up)

    @cached_property
    def _rates(self) -> FloatArray:
        """Seconds per byte down, per FLOP, and per byte up, ``(3, k)``."""
        return np.array([self.s_per_byte_down, self.s_per_flop, self.s_per_byte_up])


@dataclass(frozen=True)
class Report:
    """What came of a round, for rewards.

    Attributes:
        calls: every client call but the probes, in order of client; a tiered method calls a client several times.
        round_s: virtual seconds of the round; straggling_s: max − min over its participants.
        accuracy: of this round, None where it was not evaluated (always so in the timing fidelity).
        gain: accuracy minus that of the last evaluated round, 0 where unknown.
    """

    calls: CallTable
    round_s: float
    straggling_s: float
    accuracy: float | None = None
    gain: float = 0.0


class RoundSource(Protocol):
    """What drives federated rounds for an environment: a federation that trains, or its timing model."""

    @property
    def round(self) -> int:
        """Global rounds done so far."""

    def invite(self) -> list[int]:
        """Who is invited to the next round; asking again gives the same."""

    def probe(self, clients: Sequence[int]) -> Report:
        """Measure clients before the next round, which becomes longer by it."""

    def play(self, decisions: Decisions | None) -> Report:
        """Play the next round; None leaves everything to the method's defaults."""
