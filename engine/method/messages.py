"""What servers know of clients, what client steps are told and end with, and who owns which state."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from strata.engine.errors import EmptyCohortError
from strata.engine.method.requests import Request

G = TypeVar("G")  # global state
T = TypeVar("T")  # team state
C = TypeVar("C")  # private client state
S = TypeVar("S")  # state of a server
Down = TypeVar("Down")  # server → client
Up = TypeVar("Up")  # client → server
TeamDown = TypeVar("TeamDown")  # global server → team server
TeamUp = TypeVar("TeamUp")  # team server → global server
M = TypeVar("M", covariant=True)

Assignment = Mapping[str, float | int | str]
"""What a client is told to do this round (epochs, size, …): plain data, from the method's default or from an agent."""


@dataclass(frozen=True)
class ClientInfo:
    """What servers know of a client.

    ``label_counts`` has one entry per class or label, of the client's training samples, and 0 for each output of other
    tasks; ``flops_per_s`` is its nominal speed.
    """

    id: int
    team: int | None
    train_samples: int
    test_samples: int
    label_counts: NDArray[np.int64]
    device: str
    flops_per_s: float

    @property
    def label_entropy(self) -> float:
        """Entropy of the label distribution, in nats."""
        shares = self.label_counts[self.label_counts > 0] / max(1, self.label_counts.sum())
        return float(-(shares * np.log(shares)).sum())


@dataclass(frozen=True)
class TeamInfo:
    """What the global server knows of a team: its members now (client ids), and their training samples in all."""

    id: int
    members: tuple[int, ...]
    train_samples: int


@dataclass(frozen=True)
class Context:
    """When a step happens: global round and team round, both from 1; a seed that is this step's own.

    The team round is 0 in steps of the global server of a tiered method, and in probes.
    """

    round: int
    team_round: int
    seed: int


@dataclass(frozen=True)
class ClientResult(Generic[C, Up]):
    """What a client step ends with: the upload, the new private state, and numbers worth logging."""

    up: Up
    state: C
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Received(Generic[M]):
    """An upload as a server sees it.

    Attributes:
        sender: id of the client or team that sent it.
        samples: training samples on which it rests.
        message: what was sent.
        assignment: what the sender was told.
        staleness: how often the server's state has changed since the sender was called; 0 where servers wait for all.
        uploads: of how many it is the mean; more than 1 where the method lets them be merged, by ``merges``.
    """

    sender: int
    samples: int
    message: M
    assignment: Assignment = field(default_factory=dict)
    staleness: int = 0
    uploads: int = 1


ClientStep = Generator[Request, Any, ClientResult[C, Up]]
"""Yields requests (:mod:`strata.engine.method.requests`), is sent their answers, returns a :class:`ClientResult`."""


ServerStep = Generator[Request, Any, S]
"""A server's step that computes: yields requests about the rows that servers hold, returns the new state."""


def require_cohort(method: str, ups: Sequence[object]) -> None:
    """Refuse to aggregate nothing.

    Raises:
        EmptyCohortError: when ``ups`` is empty.
    """
    if not ups:
        raise EmptyCohortError(f"{method}: nothing to aggregate; at least one upload is needed")
