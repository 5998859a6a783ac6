"""All tiers in the process that asks for them, without Ray."""

from collections.abc import Sequence
from typing import Protocol

from strata.engine.method.situation import Decisions
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import Evaluations, Outcome
from strata.engine.rounds.records import CallRecord
from strata.engine.rounds.server import GlobalServer
from strata.engine.rounds.team import LocalTeams
from strata.engine.rounds.world import World
from strata.engine.state.snapshot import Snapshot


class Backend(Protocol):
    """Where the tiers live: in this process, or in actors."""

    def invite(self) -> list[int]:
        """Who is invited to the next round."""

    def probe(self, clients: Sequence[int]) -> list[CallRecord]:
        """Assess the speed of clients before the next round."""

    def run_round(self, decisions: Decisions | None = None) -> Outcome:
        """One global round."""

    def evaluate(self) -> Evaluations:
        """Every model on every client's test data."""

    def snapshot(self) -> Snapshot:
        """All state."""

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot."""

    def close(self) -> None:
        """End what was started."""


class InProcess:
    """All tiers in this process, without Ray."""

    def __init__(self, world: World, device: str) -> None:
        """``device`` is torch's name of where to train."""
        clients = ClientHost(world, device)
        teams = LocalTeams(world, clients) if world.data.teams else None
        self._server = GlobalServer(world, clients, teams)
        self.invite = self._server.invite
        self.probe = self._server.probe
        self.run_round = self._server.run_round
        self.evaluate = self._server.evaluate
        self.snapshot = self._server.snapshot
        self.restore = self._server.restore

    def close(self) -> None:
        """Nothing to end."""
