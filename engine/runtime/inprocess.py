"""All tiers in the process that asks for them, without Ray."""

from collections.abc import Callable
from typing import Protocol

from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.server import Rounds, serve
from strata.engine.rounds.team import LocalTeams
from strata.engine.rounds.world import World
from strata.engine.stopwatch import Seconds


class Runtime(Protocol):
    """Where the tiers live: in this process, or in actors.

    Attributes:
        rounds: the federation's verbs (invite, run a round, evaluate, …), wherever its global server is.
        hand_over: hands a verb and its arguments over before it is called, and awaited, on ``rounds``; None where
            nothing is done meanwhile.
        started: wall seconds of the start, by what was started.
        head: address of the head of the cluster, without which no round can be made; empty where there is none.
    """

    rounds: Rounds
    hand_over: Callable[..., None] | None
    started: Seconds
    head: str

    def abandon(self) -> None:
        """End what can be ended once the head is gone; then the process itself has to end."""

    def retire(self) -> None:
        """End those processes that do not answer; the others are there for the runtime that takes this one's place."""

    def close(self) -> None:
        """End the processes that were started for the run, if any; its rounds must not be used afterwards."""


class InProcess:
    """A :class:`Runtime` whose global server, team servers and clients are objects in this process, without Ray."""

    def __init__(self, world: World, device: str) -> None:
        """Make the tiers of ``world``; ``device`` is torch's name of where the clients train, e.g. ``cpu``."""
        self.started: Seconds = {}
        self.hand_over: Callable[..., None] | None = None
        self.head = ""
        clients = ClientHost(world, device)
        teams = world.data.teams
        self.rounds: Rounds = serve(world, clients, LocalTeams(world, clients, teams) if teams else None)

    def abandon(self) -> None:
        """Do nothing: there is no head that could be lost."""

    def retire(self) -> None:
        """Do nothing: whoever takes its place makes other objects."""

    def close(self) -> None:
        """Do nothing: objects in this process need not be ended."""
