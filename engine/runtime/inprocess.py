"""All tiers in the process that asks for them, without Ray."""

from typing import Protocol

from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.server import Rounds, serve
from strata.engine.rounds.team import LocalTeams
from strata.engine.rounds.world import World


class Runtime(Protocol):
    """Where the tiers live: in this process, or in actors."""

    rounds: Rounds

    def close(self) -> None:
        """End what was started."""


class InProcess:
    """A :class:`Runtime` of objects in this process."""

    def __init__(self, world: World, device: str) -> None:
        """``device`` is torch's name of where to train."""
        clients = ClientHost(world, device)
        self.rounds: Rounds = serve(world, clients, LocalTeams(world, clients) if world.data.teams else None)

    def close(self) -> None:
        """Nothing to end."""
