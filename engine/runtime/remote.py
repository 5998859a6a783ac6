"""How servers reach clients and teams that live in Ray actors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from strata.engine.params import Params
from strata.engine.rounds.pools import (
    ClientCall,
    ClientReply,
    EvaluationCall,
    Evaluations,
    Failure,
    Key,
    TeamCall,
    TeamReply,
    Ticket,
    Topology,
    merge,
)
from strata.engine.runtime.asking import (
    Actor,
    Pending,
    Ref,
    answer,
    answered,
    as_they_come,
    ask,
    names_of,
    shared_once,
)
from strata.engine.runtime.loads import Dealer
from strata.engine.runtime.passing.packing import Outgoing, Slot

C = TypeVar("C", ClientCall, TeamCall)
R = TypeVar("R", ClientReply, TeamReply)
V = TypeVar("V")


class Tasks(Generic[C, R]):
    """Calls that actors make, several as one task, and what came of them."""

    def __init__(self) -> None:
        """Nothing was handed over yet."""
        self._early: dict[Ref, dict[int, R]] = {}  # answers that nobody has asked for yet, by number

    def began(
        self, actor: Actor, verb: str, calls: Sequence[C], wires: Mapping[int, Outgoing], where: str
    ) -> list[Pending]:
        """Hand calls over as one task; one ticket each, in their order. What several are sent travels once.

        ``wires`` has what they are sent as :func:`~.asking.shared_once` gives it; ``where`` names them in errors.
        """
        slots: dict[int, Slot] = {}
        for call in calls:
            slots.setdefault(id(call.down), Slot(len(slots)))
        sent = [replace(call, down=slots[id(call.down)]) for call in calls]
        ref = ask(actor, verb, (sent,), *(wires[key] for key in slots))
        return [(ref, number, where) for number in range(len(sent))]

    def ended(self, ref: Ref) -> None:
        """A task was answered."""

    def results(self, tickets: Sequence[Ticket]) -> Iterator[R | Failure]:
        """What came of calls, a task's together once all of its calls are made.

        A call that broke gives a failure with the error as it was raised there. So does each call of an actor whose
        process ended (an ActorDiedError, which names whose calls these were), or whose answer Ray lost (a
        ClusterError).
        """
        waiting = []
        for ticket in cast(Sequence[Pending], tickets):
            early = self._early.get(ticket[0], {})
            if ticket[1] in early:
                yield early.pop(ticket[1])
            else:
                waiting.append(ticket)
        for ref, replies, wanted in as_they_come(waiting):
            self.ended(ref)
            if isinstance(replies, Failure):
                yield from [replies] * len(wanted)
                continue
            yield from (replies[number] for number in wanted)
            rest = {number: reply for number, reply in enumerate(replies) if number not in wanted}
            self._early = {ref: left for ref, left in {**self._early, ref: rest}.items() if left}

    def forget(self) -> None:
        """Nobody will ask for what was handed over."""
        self._early = {}


class RayClients(Tasks[ClientCall, ClientReply]):
    """A :class:`~strata.engine.rounds.pools.ClientPool` over client actors."""

    def __init__(
        self,
        actors: Sequence[Actor],
        homes: Sequence[int] | NDArray[np.integer],
        owner: str = "",
        work: Sequence[int] | NDArray[np.integer] | None = None,
    ) -> None:
        """Reach clients through their actors.

        Args:
            actors: of all clients.
            homes: which of them each client lives in, ``(N,)``.
            owner: follows the clients' names in errors.
            work: how much a call of each client is expected to take, by client id, in any unit, where any actor may
                make it because nothing is kept between calls; None: each client's own actor makes its calls.
        """
        super().__init__()
        self._actors, self._owner = actors, owner
        self._dealer = Dealer(len(actors), homes, work)

    def submit(self, calls: Sequence[ClientCall]) -> list[Pending]:
        """Hand calls over, one task per actor, all side by side; an actor makes its clients' calls one after the other.

        A message that several of an actor's clients are sent travels to it once. Where any actor may make a call, the
        longest are dealt first, each to the actor that has least to do.
        """
        for ref in answered(cast(list[Ref], self._dealer.open)):  # though what it came to may be asked for much later
            self._dealer.ended(ref)
        wires = shared_once(call.down for call in calls)
        tickets: list[Pending] = [None] * len(calls)  # type: ignore[list-item]
        for host, places in self._dealer.deal([call.client for call in calls]):
            own = [calls[place] for place in places]
            pending = self.began(self._actors[host], "clients.run", own, wires, self._where(own))
            self._dealer.began(pending[0][0], host, [call.client for call in own])
            for place, ticket in zip(places, pending, strict=True):
                tickets[place] = ticket
        return tickets

    def ended(self, ref: Ref) -> None:
        """A task was answered: its actor has that much less to do."""
        self._dealer.ended(ref)

    def settle(self, calls: Sequence[Key], round: int) -> None:
        """What some calls made of their clients is the clients' state, from this round on.

        It is not waited for: an actor does what it is asked in that order.
        """
        if not self._dealer.anywhere:  # else nothing is kept
            for host, places in self._dealer.by_home([client for client, _, _ in calls]):
                ask(self._actors[host], "clients.settle", ([calls[place] for place in places], round))

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate the given clients on their own test data, all actors side by side; scores by client id.

        Raises:
            StrataError: what broke an evaluation; an ActorDiedError where an actor's process ended.
        """
        shared = Outgoing(call.shared)
        clients = list(call.clients)
        asked = []
        for host, places in self._dealer.by_home(clients):
            mine = [clients[place] for place in places]
            sent = replace(call, clients=mine, shared=Slot(0))  # type: ignore[arg-type]
            asked.append((mine, ask(self._actors[host], "clients.evaluate", (sent,), shared)))
        return merge(answer(ref, f"{names_of(mine)}, evaluation") for mine, ref in asked)

    def states(self, clients: Sequence[int], since: int) -> dict[int, object]:
        """Private states, by client id, of those of the given clients that were changed after the round ``since``.

        All actors are asked side by side, for any of them may have made a call.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        refs = [ask(actor, "clients.states", (clients, since)) for actor in self._actors]
        return merge(answer(ref, f"{self._hosted(number)}, checkpoint") for number, ref in enumerate(refs))

    def restore(self, clients: Sequence[int], states: Mapping[int, object]) -> None:
        """Give some clients the private states in ``states``, by client id, and the others among them none.

        All actors are asked side by side.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        self._dealer.forget()
        self.forget()
        parts: list[dict[int, object]] = [{} for _ in self._actors]
        for client, state in states.items():
            parts[self._dealer.homes[client]][client] = state
        refs = [ask(actor, "clients.restore", (clients, part)) for actor, part in zip(self._actors, parts, strict=True)]
        for number, ref in enumerate(refs):
            answer(ref, f"{self._hosted(number)}, resume")

    def _hosted(self, number: int) -> str:
        return names_of(np.flatnonzero(self._dealer.homes == number)[:9].tolist())  # of which eight are shown

    def _where(self, calls: Sequence[ClientCall]) -> str:
        first = calls[0]
        names = names_of([call.client for call in calls]) + self._owner
        return f"{names}, round {first.round}" + (f", team round {first.team_round}" if self._owner else "")


class RayTeams(Tasks[TeamCall, TeamReply]):
    """A :class:`~strata.engine.rounds.pools.TeamPool` over the actors in which team servers live."""

    def __init__(self, actors: Sequence[Actor], homes: Mapping[int, int]) -> None:
        """Reach team servers through their ``actors``; ``homes``: which of them each lives in, by team id."""
        super().__init__()
        self._actors, self._homes = actors, homes

    def submit(self, calls: Sequence[TeamCall]) -> list[Pending]:
        """Hand the teams' rounds over, one task per actor, all side by side.

        A message that several teams are sent is packed once, and laid down once where it is large.
        """
        wires = shared_once(call.down for call in calls)
        tickets: list[Pending] = [None] * len(calls)  # type: ignore[list-item]
        for actor, places in self._by_actor([call.team for call in calls]):
            own = [calls[place] for place in places]
            where = f"{servers_of([call.team for call in own])}, round {own[0].round}"
            for place, ticket in zip(places, self.began(actor, "teams.run", own, wires, where), strict=True):
                tickets[place] = ticket
        return tickets

    def settle(self, teams: Sequence[int], round: int) -> None:
        """What their last rounds made of some teams, and of their clients, is so from this round on; not waited for."""
        for actor, places in self._by_actor(teams):
            ask(actor, "teams.settle", ([teams[place] for place in places], round))

    def settled(self) -> None:
        """Wait until all that was settled is so wherever clients live.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        list(self._answers("regrouping", "teams.settled", list(self._homes), lambda own: ()))

    def evaluate(self, shared: Mapping[str, Params], topology: Topology) -> Evaluations:
        """Evaluate the clients of all teams on their own test data, the actors side by side; scores by client id.

        Raises:
            StrataError: what broke an evaluation; an ActorDiedError where an actor's process ended.
        """
        wire = Outgoing(shared)

        def message(own: Sequence[int]) -> object:
            return Slot(0), picked(topology, own)

        return merge(self._answers("evaluation", "teams.evaluate", list(topology), message, wire))

    def snapshot(self) -> dict[int, object]:
        """Team states by team id, fetched from the team servers; None before the first round.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        return merge(self._answers("checkpoint", "teams.snapshot", list(self._homes), lambda own: ()))

    def restore(self, teams: Mapping[int, object]) -> None:
        """Give each team server its state; None: it has none.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        self.forget()
        list(self._answers("resume", "teams.restore", list(self._homes), lambda own: (picked(teams, own),)))

    def _answers(
        self,
        purpose: str,
        verb: str,
        teams: Sequence[int],
        message: Callable[[Sequence[int]], object],
        *shared: Outgoing,
    ) -> Iterator[Any]:
        """Ask the servers of some teams something, all actors side by side; one answer per actor."""
        asked = []
        for actor, places in self._by_actor(teams):
            own = [teams[place] for place in places]
            asked.append((ask(actor, verb, message(own), *shared), f"{servers_of(own)}, {purpose}"))
        return (answer(ref, where) for ref, where in asked)

    def _by_actor(self, teams: Sequence[int]) -> list[tuple[Actor, list[int]]]:
        """Each actor with the places, in the order given, of the teams whose servers live in it."""
        groups: dict[int, list[int]] = {}
        for place, team in enumerate(teams):
            groups.setdefault(self._homes[team], []).append(place)
        return [(self._actors[home], places) for home, places in groups.items()]


def picked(by_team: Mapping[int, V], teams: Sequence[int]) -> dict[int, V]:
    """What there is of some teams."""
    return {team: by_team[team] for team in teams if team in by_team}


def servers_of(teams: Sequence[int]) -> str:
    """Team servers as an error names them: ``team server 3``, ``team servers 3, 5``."""
    return f"team server{'s' * (len(teams) > 1)} {', '.join(map(str, teams))}"
