"""How servers reach clients and teams that are Ray actors, and what is raised when one cannot be reached."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

from strata.engine.errors import ActorDiedError, ClusterError
from strata.engine.params import Params
from strata.engine.rounds.pools import (
    ClientCall,
    ClientReply,
    EvaluationCall,
    Evaluations,
    TeamCall,
    TeamReply,
    merge,
)
from strata.engine.tree import count_bytes, from_wire, to_wire

Actor = ActorHandle[Any]

INLINE_BYTES = 100_000  # what is larger goes through the object store once; Ray's own limit for inlined arguments


class RayClients:
    """A :class:`~strata.engine.rounds.pools.ClientPool` over client actors."""

    def __init__(self, actors: Mapping[int, Actor], owner: str = "") -> None:
        """Actor by client id; several clients may share one. ``owner`` names the team in errors."""
        self._actors, self._owner = actors, owner

    def run(self, calls: Sequence[ClientCall]) -> list[ClientReply]:
        """One call per actor, all side by side; an actor makes its clients' calls one after the other.

        Raises:
            ActorDiedError: naming clients, team and round.
        """
        downs = _shared_once(call.down for call in calls)
        pending: list[tuple[list[ClientCall], Any]] = []
        for actor, mine in self._by_actor(call.client for call in calls):
            own = [call for call in calls if call.client in mine]
            ids = list(dict.fromkeys(id(call.down) for call in own))
            indexed = [replace(call, down=ids.index(id(call.down))) for call in own]
            pending.append((own, actor.run.remote(indexed, *(downs[i] for i in ids))))
        replies: dict[int, ClientReply] = {}
        for own, ref in pending:
            for reply in fetch(ref, self._where(own)):
                replies[reply.client] = replace(reply, up=from_wire(reply.up))
        return [replies[call.client] for call in calls]

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate on all actors side by side."""
        shared = put_once(call.shared)
        refs: list[tuple[list[int], Any]] = [
            (mine, actor.evaluate.remote(mine, shared)) for actor, mine in self._by_actor(call.clients)
        ]
        return merge(fetch(ref, f"{names_of(mine)}, evaluation") for mine, ref in refs)

    def states(self, clients: Iterable[int]) -> dict[int, Any]:
        """States of those clients that have one."""
        refs: list[tuple[list[int], Any]] = [
            (mine, actor.states.remote(mine)) for actor, mine in self._by_actor(clients)
        ]
        return merge(from_wire(fetch(ref, f"{names_of(mine)}, checkpoint")) for mine, ref in refs)

    def restore(self, states: Mapping[int, Any]) -> None:
        """Put states back."""
        for actor, mine in self._by_actor(states):
            part = to_wire({client: states[client] for client in mine})
            fetch(actor.restore.remote(part), f"{names_of(mine)}, resume")

    def _where(self, calls: Sequence[ClientCall]) -> str:
        first = calls[0]
        names = names_of([call.client for call in calls]) + self._owner
        return (
            f"{names}, round {first.round}, team round {first.team_round}"
            if self._owner
            else f"{names}, round {first.round}"
        )

    def _by_actor(self, clients: Iterable[int]) -> list[tuple[Actor, list[int]]]:
        groups: dict[Any, tuple[Actor, list[int]]] = {}
        for client in clients:
            actor = self._actors[client]
            groups.setdefault(actor._actor_id, (actor, []))[1].append(client)
        return list(groups.values())


class RayTeams:
    """A :class:`~strata.engine.rounds.pools.TeamPool` over team actors."""

    def __init__(self, actors: Mapping[int, Actor], members: Mapping[int, Sequence[int]]) -> None:
        """Actor by team id, and each team's clients."""
        self._actors, self._members = actors, members

    def run(self, calls: Sequence[TeamCall]) -> list[TeamReply]:
        """Run the teams side by side; a message that several teams are sent travels once.

        Raises:
            ActorDiedError: naming what died, and the round.
        """
        downs = _shared_once(call.down for call in calls)
        refs: list[Any] = [
            self._actors[call.team].run.remote(replace(call, down=None), downs[id(call.down)]) for call in calls
        ]
        pairs = list(zip(calls, refs, strict=True))
        replies: list[TeamReply] = [fetch(ref, f"team server {call.team}, round {call.round}") for call, ref in pairs]
        return [replace(reply, up=from_wire(reply.up)) for reply in replies]

    def evaluate(self, shared: Mapping[str, Params]) -> Evaluations:
        """Evaluate all teams side by side."""
        wire = ray.put(to_wire(shared))
        return merge(self._all(lambda team, actor: actor.evaluate.remote(wire), "evaluation").values())

    def snapshot(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Team states and client states, each by id."""
        taken = self._all(lambda team, actor: actor.snapshot.remote(), "checkpoint")
        parts = {team: from_wire(part) for team, part in taken.items()}
        return {team: state for team, (state, _) in parts.items()}, merge(clients for _, clients in parts.values())

    def restore(self, teams: Mapping[int, Any], clients: Mapping[int, Any]) -> None:
        """Put both back."""

        def part(team: int, actor: Actor) -> Any:
            own = {client: clients[client] for client in self._members[team] if client in clients}
            return actor.restore.remote(to_wire(teams.get(team)), to_wire(own))

        self._all(part, "resume")

    def _all(self, call: Any, purpose: str) -> dict[int, Any]:
        refs: dict[int, Any] = {team: call(team, actor) for team, actor in self._actors.items()}
        return {team: fetch(ref, f"team server {team}, {purpose}") for team, ref in refs.items()}


def put_once(message: Any) -> Any:
    """A message on the wire, once: a large one by way of the object store."""
    wire = to_wire(message)
    return ray.put(wire) if count_bytes(message) > INLINE_BYTES else wire


def _shared_once(messages: Iterable[Any]) -> dict[int, Any]:
    """Messages on the wire by their identity, each one once, however many are sent it."""
    wires: dict[int, Any] = {}
    for message in messages:
        if id(message) not in wires:
            wires[id(message)] = put_once(message)
    return wires


def fetch(ref: Any, where: str) -> Any:
    """The value of a reference; what went wrong instead, as an error that names who was asked (``where``)."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise_cause(error)
    except RayActorError as error:
        raise ActorDiedError(
            f"{where}: the actor's process ended: {reason_of(error)}. Nothing of this round was kept; the last "
            "checkpoint can be resumed."
        ) from None
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(
            f"{where}: Ray lost or could not keep what it held ({type(error).__name__}: {reason}). The "
            "last checkpoint can be resumed."
        ) from None


def raise_cause(error: RayTaskError) -> NoReturn:
    """Raise what a task of an actor raised."""
    # The error as it was raised in the actor: its message already says who and when.
    if isinstance(error.cause, Exception):
        raise error.cause from None
    raise error


def reason_of(error: RayActorError) -> str:
    """Why an actor died, in a few words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("in its creation task" in line for line in lines):
        return lines[-1]  # what the actor's own start raised
    for text in lines:
        if text.startswith("The actor is dead because"):
            return text.removeprefix("The actor is dead because ").rstrip(".")
    return "it was killed or crashed (out of memory is the usual cause)"


def names_of(clients: Sequence[int]) -> str:
    """Clients as an error names them."""
    shown = ", ".join(map(str, clients[:8])) + (", …" if len(clients) > 8 else "")
    return f"client{'s' * (len(clients) > 1)} {shown}"
