"""All state of a federation between two rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from strata.engine.state.archive import Archived


@dataclass(frozen=True)
class Snapshot:
    """All state of a federation at the end of a round, by owner.

    Attributes:
        round: global rounds done, 0 before the first.
        virtual_s: the virtual clock, in seconds.
        server: state of the global server.
        teams: state of each team server, by team id; None before the team's first round.
        clients: private state of each client that was called at least once, by client id; or of those of them whose
            state has changed since some round.
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
    """What a checkpoint holds.

    Attributes:
        snapshot: all state but the clients'.
        clients: where these lie.
        digest: SHA-256 over the metrics of all rounds so far, as :func:`strata.engine.rounds.scores.chain` makes it.
        beside: a tree that is kept with it, e.g. the agents; None where there is none.
    """

    snapshot: Snapshot
    clients: Archived
    digest: str
    beside: object = None
