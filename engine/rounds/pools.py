"""How servers reach clients and teams, wherever these live: what is asked of them, and what comes back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from strata.engine.method.messages import Assignment
from strata.engine.method.requests import Evaluation
from strata.engine.params import Params
from strata.engine.rounds.records import CallRecord


@dataclass(frozen=True)
class ClientCall:
    """An invitation: which client, when, and what it receives; a probe only assesses its speed."""

    client: int
    round: int
    team_round: int
    down: Any
    probe: bool = False


@dataclass(frozen=True)
class ClientReply:
    """What comes back of a call; ``up`` is None when the client was lost on the way."""

    client: int
    up: Any
    record: CallRecord


@dataclass(frozen=True)
class EvaluationCall:
    """Evaluate the ``shared`` models (TM, GM) and the personal models of some clients."""

    clients: Sequence[int]
    shared: Mapping[str, Params]


Evaluations = dict[int, Mapping[str, Evaluation]]
"""By client id: one :class:`~strata.engine.method.requests.Evaluation` per kind of model."""


class ClientPool(Protocol):
    """How a server reaches clients, wherever they live. Replies come in the order of the calls."""

    def run(self, calls: Sequence[ClientCall]) -> list[ClientReply]:
        """Make client calls side by side."""

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate on the clients' own test data."""

    def states(self, clients: Iterable[int]) -> dict[int, Any]:
        """Private states of those clients that have one yet."""

    def restore(self, states: Mapping[int, Any]) -> None:
        """Put private states back."""


@dataclass(frozen=True)
class Outcome:
    """What a global round amounts to, before it is scored.

    Attributes:
        seconds: virtual length of the round.
        straggling: max − min seconds of each cohort of clients.
        calls: every client call, in order of team round, team and client.
        counted: uploads that entered the global step: clients', or, in a tiered method, teams'. 0: it was not made.
        late_teams: teams dropped by the team tier's deadline.
    """

    seconds: float
    straggling: Sequence[float]
    calls: Sequence[CallRecord]
    counted: int = 0
    bytes_team_down: int = 0
    bytes_team_up: int = 0
    late_teams: int = 0
    teams: int = 0


@dataclass(frozen=True)
class TeamCall:
    """The start of a global round for one team."""

    team: int
    round: int
    down: Any
    assignments: Mapping[int, Assignment] | None = None


@dataclass(frozen=True)
class TeamReply:
    """What a team returns after its rounds: upload, virtual seconds from invitation to the end of its upload, calls."""

    team: int
    samples: int
    up: Any
    seconds: float
    straggling: Sequence[float]
    calls: Sequence[CallRecord]
    bytes_down: int
    bytes_up: int


class TeamPool(Protocol):
    """How the global server reaches team servers, wherever they live. Replies come in the order of the calls."""

    def run(self, calls: Sequence[TeamCall]) -> list[TeamReply]:
        """Run the teams' rounds side by side."""

    def evaluate(self, shared: Mapping[str, Params]) -> Evaluations:
        """Evaluate all teams' clients."""

    def snapshot(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Team states and client states, each by id."""

    def restore(self, teams: Mapping[int, Any], clients: Mapping[int, Any]) -> None:
        """Put both back."""


def merge(parts: Iterable[Mapping[int, Any]]) -> dict[int, Any]:
    """Join dicts with distinct ids, ordered by id."""
    joined: dict[int, Any] = {}
    for part in parts:
        joined.update(part)
    return dict(sorted(joined.items()))
