"""All state of a federation between two rounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Snapshot:
    """All state of a federation at the end of a round, by owner."""

    round: int
    virtual_s: float
    server: Any
    teams: Mapping[int, Any]
    clients: Mapping[int, Any]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: all state, the digest of the metrics so far, and what is kept beside (the agents)."""

    snapshot: Snapshot
    digest: str
    beside: Any = None
