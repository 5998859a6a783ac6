"""Rounds of the timing model alone: the same server over a pool that prices calls instead of making them.

Agents whose rewards are latencies are pre-trained on it, at hundreds of rounds a second. For equal decisions, rounds
have the seconds and bytes of the real ones, to the bit (a test asserts it).
"""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence

from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.messages import Assignment, Received
from strata.engine.method.situation import Decisions, Report
from strata.engine.rounds.cohort import FlatTier, flat
from strata.engine.rounds.costs import PRICED, CallCosts, PricedClients, Prices
from strata.engine.rounds.pools import ClientCall, ClientReply, Failure, Ticket
from strata.engine.rounds.records import SERVER, report_of_probes, report_of_round
from strata.engine.rounds.schedules import Moment, Step
from strata.engine.rounds.server import GlobalServer
from strata.engine.rounds.world import World

NOTHING: Received[object] = Received(SERVER, 1, PRICED)
"""Stands for the uploads of priced calls."""


class PricedTier(FlatTier):
    """Clients whose calls are priced: they are sent nothing, and the server's state stays as it is."""

    def _sent(self, state: object, moment: Moment, told: Mapping[int, Assignment]) -> list[ClientCall]:
        """What each client of a cohort is told, without anything that it would be sent."""
        return [
            ClientCall(client, self._team, moment.round, moment.team_round, decided, virtual_s=moment.virtual_s)
            for client, decided in told.items()
        ]

    def results(self, tickets: Sequence[Ticket]) -> Iterator[ClientReply | Failure]:
        """The replies, whose wall time nobody measures: there are thousands a second."""
        return self._clients.results(tickets)

    def received(self, call: ClientCall, reply: ClientReply, state: object, staleness: int = 0) -> Received[object]:
        """What stands for every upload: a priced one holds nothing, and nobody looks into it."""
        return NOTHING

    def aggregate(self, state: object, ups: Sequence[Received[object]], moment: Moment) -> object:
        """The server's state as it was before: priced uploads hold nothing to aggregate."""
        return state

    def assessed(self, before: object, step: Step[ClientReply]) -> Mapping[int, Mapping[str, float]]:
        """What the method can tell of uploads, which is nothing: priced ones hold nothing."""
        return {}


class TimedRounds:
    """The rounds of one world, timed only; a :class:`~strata.engine.method.situation.RoundSource`. For flat methods."""

    def __init__(self, world: World, costs: CallCosts | None = None) -> None:
        """Start before the first round; ``costs`` may be shared between worlds of the same data.

        Raises:
            ConfigError: for a tiered method, and for a server whose computing takes virtual seconds.
        """
        if isinstance(world.algorithm, TieredAlgorithm):
            raise ConfigError(
                f"{type(world.algorithm).__name__} has teams: the timing fidelity is for flat methods. Use "
                "fidelity=full."
            )
        computes = inspect.isgeneratorfunction(flat(world).global_step)
        if computes and world.server_profile.flops_per_s < math.inf:
            raise ConfigError(
                f"{type(world.algorithm).__name__} computes on its server, which the timing fidelity does not price. "
                "Leave delays.server_device empty, or use fidelity=full."
            )
        self.world, self.costs = world, costs or CallCosts(world)
        clients = PricedClients(world, self.costs)
        self._server = GlobalServer(world, PricedTier(world, clients, Prices(world, self.costs)), clients)

    @property
    def round(self) -> int:
        """Global rounds timed so far."""
        return self._server.round

    def invite(self) -> list[int]:
        """Who is invited to the next round, by client id; asking again gives the same."""
        return self._server.invite()

    def probe(self, clients: Sequence[int]) -> Report:
        """Time the probes of some clients; the next round becomes longer by the slowest of them."""
        return report_of_probes(self._server.probe(clients))

    def play(self, decisions: Decisions | None) -> Report:
        """Time the next round under what was decided; None leaves everything to the method's defaults."""
        outcome = self._server.run_round(decisions)
        return report_of_round(outcome.calls, outcome.seconds, sum(outcome.straggling), None)
