"""How servers reach clients and teams that are Ray actors, and what is raised when one cannot be reached."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

from strata.engine.errors import ActorDiedError, ClusterError
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
from strata.engine.runtime.loads import Dealer
from strata.engine.runtime.shells import Shell, Slot
from strata.engine.tree import count_bytes, from_wire, to_wire

Actor = ActorHandle[Shell]
Ref = ObjectRef[object]  # of a shell's answer

INLINE_BYTES = 100_000  # what is larger goes through the object store once; Ray's own limit for inlined arguments


Pending = tuple[Ref, int, str]
"""A ticket: the reference of a task that answers several calls, which of them it is, and who was asked."""


class Remote:
    """Stands in the driver for what an actor holds: a method called on it is called there, and waited for."""

    def __init__(self, actor: Actor, where: str) -> None:
        """``actor`` is the shell that holds it; ``where`` names it in errors."""
        self._actor, self._where = actor, where

    def __getattr__(self, verb: str) -> Callable[..., object]:
        return lambda *arguments: answer(ask(self._actor, verb, to_wire(arguments)), self._where)


class RayClients:
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
        self._actors, self._owner = actors, owner
        self._dealer = Dealer(len(actors), homes, work)
        self._early: dict[Ref, dict[int, ClientReply]] = {}  # answers that nobody has asked for yet, by number

    def submit(self, calls: Sequence[ClientCall]) -> list[Pending]:
        """Hand calls over, one task per actor, all side by side; an actor makes its clients' calls one after the other.

        A message that several of an actor's clients are sent travels to it once. Where any actor may make a call, the
        longest are dealt first, each to the actor that has least to do.
        """
        wires = shared_once(call.down for call in calls)
        tickets: list[Pending] = [None] * len(calls)  # type: ignore[list-item]
        for host, places in self._dealer.deal([call.client for call in calls]):
            own = [calls[place] for place in places]
            slots: dict[int, Slot] = {}
            for call in own:
                slots.setdefault(id(call.down), Slot(len(slots)))
            sent = [replace(call, down=slots[id(call.down)]) for call in own]
            ref = ask(self._actors[host], "run", (sent,), *(wires[key] for key in slots))
            self._dealer.began(ref, host, [call.client for call in own])
            where = self._where(own)
            for number, place in enumerate(places):
                tickets[place] = (ref, number, where)
        return tickets

    def results(self, tickets: Sequence[Ticket]) -> Iterator[ClientReply | Failure]:
        """The replies of calls, an actor's together once it has made all of them.

        A call that broke gives a failure. So does each call of an actor whose process ended (an ActorDiedError, which
        names its clients, team and round), or whose answer Ray lost (a ClusterError).
        """
        waiting = []
        for ticket in cast(Sequence[Pending], tickets):
            early = self._early.get(ticket[0], {})
            if ticket[1] in early:
                yield early.pop(ticket[1])
            else:
                waiting.append(ticket)
        for ref, replies, wanted in as_they_come(waiting):
            self._dealer.ended(ref)
            if isinstance(replies, Failure):
                yield from [replies] * len(wanted)
                continue
            yield from (replies[number] for number in wanted)
            rest = {number: reply for number, reply in enumerate(replies) if number not in wanted}
            self._early = {ref: left for ref, left in {**self._early, ref: rest}.items() if left}

    def settle(self, calls: Sequence[Key], round: int) -> None:
        """What some calls made of their clients is the clients' state, from this round on.

        It is not waited for: an actor does what it is asked in that order.
        """
        if not self._dealer.anywhere:  # else nothing is kept
            for host, places in self._dealer.by_home([client for client, _, _ in calls]):
                ask(self._actors[host], "settle", ([calls[place] for place in places], round))

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate the given clients on their own test data, all actors side by side; scores by client id.

        Raises:
            StrataError: what broke an evaluation; an ActorDiedError where an actor's process ended.
        """
        shared = put_once(call.shared)
        clients = list(call.clients)
        asked = []
        for host, places in self._dealer.by_home(clients):
            mine = [clients[place] for place in places]
            sent = replace(call, clients=mine, shared=Slot(0))  # type: ignore[arg-type]
            asked.append((mine, ask(self._actors[host], "evaluate", (sent,), shared)))
        return merge(answer(ref, f"{names_of(mine)}, evaluation") for mine, ref in asked)

    def states(self, clients: Sequence[int], since: int) -> dict[int, object]:
        """Private states, by client id, of those of the given clients that were changed after the round ``since``.

        All actors are asked side by side, for any of them may have made a call.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        refs = [ask(actor, "states", (clients, since)) for actor in self._actors]
        return merge(answer(ref, f"{self._hosted(number)}, checkpoint") for number, ref in enumerate(refs))

    def restore(self, clients: Sequence[int], states: Mapping[int, object]) -> None:
        """Give some clients the private states in ``states``, by client id, and the others among them none.

        All actors are asked side by side.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        self._dealer.forget()
        self._early = {}
        parts: list[dict[int, object]] = [{} for _ in self._actors]
        for client, state in states.items():
            parts[self._dealer.homes[client]][client] = state
        refs = [
            ask(actor, "restore", to_wire((clients, part))) for actor, part in zip(self._actors, parts, strict=True)
        ]
        for number, ref in enumerate(refs):
            answer(ref, f"{self._hosted(number)}, resume")

    def _hosted(self, number: int) -> str:
        return names_of(np.flatnonzero(self._dealer.homes == number)[:9].tolist())  # of which eight are shown

    def _where(self, calls: Sequence[ClientCall]) -> str:
        first = calls[0]
        names = names_of([call.client for call in calls]) + self._owner
        return f"{names}, round {first.round}" + (f", team round {first.team_round}" if self._owner else "")


class RayTeams:
    """A :class:`~strata.engine.rounds.pools.TeamPool` over team actors."""

    def __init__(self, actors: Mapping[int, Actor]) -> None:
        """``actors`` of the team servers, by team id."""
        self._actors = actors

    def submit(self, calls: Sequence[TeamCall]) -> list[Pending]:
        """Hand each team's rounds over to its actor, to run side by side.

        A large message that several teams are sent is put into the object store once.
        """
        wires = shared_once(call.down for call in calls)
        tickets: list[Pending] = []
        for call in calls:
            ref = ask(self._actors[call.team], "run", (replace(call, down=Slot(0)),), wires[id(call.down)])
            tickets.append((ref, 0, f"team server {call.team}, round {call.round}"))
        return tickets

    def results(self, tickets: Sequence[Ticket]) -> Iterator[TeamReply | Failure]:
        """The replies of teams, in the order in which they have made their rounds.

        A team's round that broke gives a failure with the error as it was raised there. So does a team whose actor's
        process ended (an ActorDiedError, which names what died, and the round), or whose answer Ray lost (a
        ClusterError).
        """
        return (reply for _, reply, _ in as_they_come(cast(Sequence[Pending], tickets)))

    def settle(self, teams: Sequence[int], round: int) -> None:
        """What their last rounds made of some teams, and of their clients, is so from this round on; not waited for."""
        for team in teams:
            ask(self._actors[team], "settle", (round,))

    def evaluate(self, shared: Mapping[str, Params], topology: Topology) -> Evaluations:
        """Evaluate the clients of all teams on their own test data, the teams side by side; scores by client id.

        Raises:
            StrataError: what broke an evaluation; an ActorDiedError where an actor's process ended.
        """
        wire = put_once(shared)
        refs = {team: ask(self._actors[team], "evaluate", (Slot(0), m), wire) for team, m in topology.items()}
        return merge(self._answers(refs, "evaluation").values())

    def snapshot(self) -> dict[int, object]:
        """Team states by team id, fetched from the team servers; None before the first round.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        return self._answers({team: ask(actor, "snapshot", ()) for team, actor in self._actors.items()}, "checkpoint")

    def restore(self, teams: Mapping[int, object]) -> None:
        """Give each team server its state; None: it has none.

        Raises:
            ActorDiedError: when an actor's process ended.
        """
        sent = {team: to_wire((teams.get(team),)) for team in self._actors}
        self._answers({team: ask(self._actors[team], "restore", state) for team, state in sent.items()}, "resume")

    def _answers(self, refs: Mapping[int, Ref], purpose: str) -> dict[int, Any]:
        return {team: answer(ref, f"team server {team}, {purpose}") for team, ref in refs.items()}


def ask(actor: Actor, verb: str, arguments: object, *shared: object) -> Ref:
    """Hand a call over to a shell; see :meth:`~strata.engine.runtime.shells.Shell.ask`. Gives a reference.

    Tensors in ``arguments`` must be on the wire already.
    """
    return actor.ask.remote(verb, arguments, *shared)


def answer(ref: Ref, where: str) -> Any:
    """Wait for what a shell answers, its arrays from the wire made tensors again; raises as :func:`fetch` does."""
    return from_wire(fetch(ref, where))


def as_they_come(tickets: Iterable[Pending]) -> Iterator[tuple[Ref, Any, list[int]]]:
    """Wait for tasks, in the order in which they end.

    Yields:
        each task's reference; its answer, or a failure with what :func:`fetch` raises; and which of the calls that it
        makes are among the tickets, by number.
    """
    waiting: dict[Ref, tuple[list[int], str]] = {}
    for ref, number, where in tickets:
        waiting.setdefault(ref, ([], where))[0].append(number)
    rest = list(waiting)
    while rest:
        ray.wait(rest, num_returns=1)  # returns as soon as there is one, and then no others that are there
        ready, rest = ray.wait(rest, num_returns=len(rest), timeout=0)
        for ref in ready:
            numbers, where = waiting.pop(ref)
            yield ref, _answer_or_failure(ref, where), numbers


def _answer_or_failure(ref: Ref, where: str) -> Any:
    try:
        return answer(ref, where)
    except Exception as error:
        return Failure(error)


def shared_once(messages: Iterable[object]) -> dict[int, object]:
    """Each distinct message ready for the wire, by ``id(message)``, prepared once, however many are sent it."""
    wires: dict[int, object] = {}
    for message in messages:
        if id(message) not in wires:
            wires[id(message)] = put_once(message)
    return wires


def put_once(message: object) -> object:
    """A message ready for the wire; above :data:`INLINE_BYTES` a reference to the object store, where it lies once."""
    wire = to_wire(message)
    return ray.put(wire) if count_bytes(message) > INLINE_BYTES else wire


def fetch(ref: Ref, where: str) -> object:
    """Wait for the value of a reference; ``where`` says in errors who was asked.

    Raises:
        ActorDiedError: when the actor's process ended.
        ClusterError: when Ray lost the value.
        Exception: what the task raised, as it was raised in the actor.
    """
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise_cause(error)
    except RayActorError as error:
        raise ActorDiedError(f"{where}: the actor's process ended: {reason_of(error)}.") from None
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(
            f"{where}: Ray lost or could not keep what it held ({type(error).__name__}: {reason})."
        ) from None


def raise_cause(error: RayTaskError) -> NoReturn:
    """Raise the error that an actor's task raised, with its own type and message; Ray's where it holds none."""
    # The error as it was raised in the actor: its message already says who and when.
    if isinstance(error.cause, Exception):
        raise error.cause from None
    raise error


def raised_at_start(error: RayActorError) -> bool:
    """Whether an actor died of what its own start raised."""
    return "in its creation task" in str(error)


def reason_of(error: RayActorError) -> str:
    """Why an actor died, in a few words from Ray's message; a guess where it gives no reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if raised_at_start(error):
        return lines[-1]  # what was raised
    for text in lines:
        if text.startswith("The actor is dead because"):
            # What follows are Ray's guesses, which fill a screen.
            return text.removeprefix("The actor is dead because ").partition(" Some common causes")[0].rstrip(".")
    return "it was killed or crashed (out of memory is the usual cause)"


def names_of(clients: Sequence[int]) -> str:
    """Clients as an error names them: ``client 3``, ``clients 3, 5``; at most eight, and an ellipsis for the others."""
    shown = ", ".join(map(str, clients[:8])) + (", …" if len(clients) > 8 else "")
    return f"client{'s' * (len(clients) > 1)} {shown}"
