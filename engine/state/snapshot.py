"""All state of a federation between two rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from strata.engine.clock.shared_links import Going
from strata.engine.method.situation import Decisions
from strata.engine.state.archive import Archived


@dataclass(frozen=True)
class Flying:
    """A call that is in flight between two rounds, as it is made anew when a run is resumed.

    Attributes:
        receiver: id of the child that was called, a client or a team.
        round, team_round: when.
        assignment: what it was told, if it is a client; ``decisions``: if it is a team, of its round.
        virtual_s: virtual clock when it was called.
        message: which of the messages it was sent.
        seconds: virtual ones that the call takes.
        age_s: virtual seconds since it was called.
        version: how often the server's state had changed by then.
        going: how far it is where its server's link is shared; else None.
    """

    receiver: int
    round: int
    team_round: int
    assignment: Mapping[str, float | int | str]
    message: int
    seconds: float
    age_s: float
    version: int
    decisions: Decisions | None = None
    virtual_s: float = 0.0
    going: Going | None = None


@dataclass(frozen=True)
class Aloft:
    """What is in flight between a server and its children.

    Attributes:
        version: how often the server's state has changed.
        messages: what the children were sent, each once.
        calls: of the children, by their ids.
        behind_s: virtual seconds for which these have gone on beyond what ``going`` says of them.
        own: what a schedule of somebody's own remembers; None: nothing.
    """

    version: int = 0
    messages: Sequence[object] = ()
    calls: Sequence[Flying] = ()
    behind_s: float = 0.0
    own: object = None


@dataclass(frozen=True)
class Underway:
    """A team server that does not wait for all its clients, between two of its rounds.

    Attributes:
        state: of the team; None before its first round.
        aloft: calls that its clients are on.
        virtual_s: virtual clock when its last round ended.
    """

    state: object = None
    aloft: Aloft = Aloft()
    virtual_s: float = 0.0

    @property
    def bare(self) -> "Underway":
        """The same without states and messages: all that the virtual clock needs."""
        return replace(self, state=None, aloft=replace(self.aloft, messages=[None] * len(self.aloft.messages)))


@dataclass(frozen=True)
class Snapshot:
    """All state of a federation at the end of a round, by owner.

    Attributes:
        round: global rounds done, 0 before the first.
        virtual_s: the virtual clock, in seconds.
        server: state of the global server.
        teams: state of each team server, by team id; None before the team's first round. An :class:`Underway` where
            teams do not wait for all their clients, or by a schedule of somebody's own.
        clients: private state of each client that was called at least once, by client id; or of those of them whose
            state has changed since some round.
        topology: members by team, where the method forms teams anew; None: as they were formed at the start.
        aloft: calls that the global server's children are on.
    """

    round: int
    virtual_s: float
    server: object
    teams: Mapping[int, object] = field(default_factory=dict)
    clients: Mapping[int, object] = field(default_factory=dict)
    topology: Mapping[int, Sequence[int]] | None = None
    aloft: Aloft = Aloft()

    @property
    def team_states(self) -> dict[int, object]:
        """State of each team server, by team id, without what is in flight."""
        return {team: held.state if isinstance(held, Underway) else held for team, held in self.teams.items()}


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
