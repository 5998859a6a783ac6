"""All state of a federation between two rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Snapshot:
    """All state of a federation at the end of a round, by owner.

    Attributes:
        server: of the global server.
        teams, clients: of those that have one, by id.
        topology: members by team, where the method forms teams anew; None: as they were formed at the start.
    """

    round: int
    virtual_s: float
    server: object
    teams: Mapping[int, object] = field(default_factory=dict)
    clients: Mapping[int, object] = field(default_factory=dict)
    topology: Mapping[int, Sequence[int]] | None = None


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: all state, the digest of the metrics so far, and what is kept beside (the agents)."""

    snapshot: Snapshot
    digest: str
    beside: object = None
