"""The tiers as Ray actors: thin shells around :mod:`engine.clients` and :mod:`engine.servers`.

Each actor is built from the same :class:`~engine.world.World`, which lies in the object store once per node.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine.clients import ClientCall, ClientHost, ClientReply, EvaluationCall, Evaluations
from engine.control import Decisions
from engine.errors import ActorDiedError, ClusterError, ResourceError
from engine.messages import Params, count_bytes, from_wire, to_wire
from engine.placement import Seat
from engine.records import CallRecord
from engine.servers import GlobalServer, Outcome, Snapshot, TeamCall, TeamReply, TeamServer, merge
from engine.trainer import resolve_device
from engine.world import World

Actor = ActorHandle[Any]

INLINE_BYTES = 100_000  # what is larger goes through the object store once; Ray's own limit for inlined arguments


class ClientShell:
    """One or several clients in one process."""

    def __init__(self, world: World, device: str, gpus: float) -> None:
        """See :class:`~engine.clients.ClientHost`; ``gpus`` is this actor's share."""
        self._host = ClientHost(world, resolve_device(device, gpus))

    def run(self, calls: Sequence[ClientCall], *downs: Any) -> list[ClientReply]:
        """Make the calls; each one's ``down`` is an index into ``downs``, so that equal messages travel once."""
        messages = [from_wire(down) for down in downs]
        replies = self._host.run([replace(call, down=messages[call.down]) for call in calls])
        return [replace(reply, up=to_wire(reply.up)) for reply in replies]

    def evaluate(self, clients: Sequence[int], shared: Any) -> Evaluations:
        """Evaluate the given clients on the shared models and on their own."""
        return self._host.evaluate(EvaluationCall(clients, from_wire(shared)))

    def states(self, clients: Sequence[int]) -> Any:
        """Private states of those clients that have one."""
        return to_wire(self._host.states(clients))

    def restore(self, states: Any) -> None:
        """Put states back."""
        self._host.restore(from_wire(states))

    def ready(self) -> bool:
        """Answers once the actor has started."""
        return True


class RayClients:
    """A :class:`~engine.clients.ClientPool` over client actors."""

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
            for reply in _get(ref, self._where(own)):
                replies[reply.client] = replace(reply, up=from_wire(reply.up))
        return [replies[call.client] for call in calls]

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate on all actors side by side."""
        shared = _shared(call.shared)
        refs: list[tuple[list[int], Any]] = [
            (mine, actor.evaluate.remote(mine, shared)) for actor, mine in self._by_actor(call.clients)
        ]
        return merge(_get(ref, f"{_names(mine)}, evaluation") for mine, ref in refs)

    def states(self, clients: Iterable[int]) -> dict[int, Any]:
        """States of those clients that have one."""
        refs: list[tuple[list[int], Any]] = [
            (mine, actor.states.remote(mine)) for actor, mine in self._by_actor(clients)
        ]
        return merge(from_wire(_get(ref, f"{_names(mine)}, checkpoint")) for mine, ref in refs)

    def restore(self, states: Mapping[int, Any]) -> None:
        """Put states back."""
        for actor, mine in self._by_actor(states):
            part = to_wire({client: states[client] for client in mine})
            _get(actor.restore.remote(part), f"{_names(mine)}, resume")

    def _where(self, calls: Sequence[ClientCall]) -> str:
        first = calls[0]
        names = _names([call.client for call in calls]) + self._owner
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


class TeamShell:
    """One team server."""

    def __init__(self, world: World, team: int, clients: Mapping[int, Actor]) -> None:
        """See :class:`~engine.servers.TeamServer`."""
        self._server = TeamServer(world, team, RayClients(clients, f" (team {team})"))

    def run(self, call: TeamCall, down: Any) -> TeamReply:
        """The team's rounds of one global round."""
        reply = self._server.run(replace(call, down=from_wire(down)))
        return replace(reply, up=to_wire(reply.up))

    def evaluate(self, shared: Any) -> Evaluations:
        """Evaluate the team's clients."""
        return self._server.evaluate(from_wire(shared))

    def snapshot(self) -> Any:
        """The team's state and its clients'."""
        return to_wire(self._server.snapshot())

    def restore(self, state: Any, clients: Any) -> None:
        """Put both back."""
        self._server.restore(from_wire(state), from_wire(clients))

    def ready(self) -> bool:
        """Answers once the actor has started."""
        return True


class RayTeams:
    """A :class:`~engine.servers.TeamPool` over team actors."""

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
        replies: list[TeamReply] = [_get(ref, f"team server {call.team}, round {call.round}") for call, ref in pairs]
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
        return {team: _get(ref, f"team server {team}, {purpose}") for team, ref in refs.items()}


class GlobalShell:
    """The global server."""

    def __init__(self, world: World, clients: Mapping[int, Actor], teams: Mapping[int, Actor] | None) -> None:
        """See :class:`~engine.servers.GlobalServer`."""
        pool = None if teams is None else RayTeams(teams, world.data.teams)
        self._server = GlobalServer(world, RayClients(clients), pool)

    def invite(self) -> list[int]:
        """Who is invited to the next round."""
        return self._server.invite()

    def probe(self, clients: Sequence[int]) -> list[CallRecord]:
        """Assess the speed of clients before the next round."""
        return self._server.probe(clients)

    def run_round(self, decisions: Decisions | None = None) -> Outcome:
        """One global round."""
        return self._server.run_round(decisions)

    def evaluate(self) -> Evaluations:
        """Evaluate every model on every client's test data."""
        return self._server.evaluate()

    def snapshot(self) -> Any:
        """All state."""
        return to_wire(self._server.snapshot())

    def restore(self, snapshot: Any) -> None:
        """Continue from a snapshot."""
        self._server.restore(from_wire(snapshot))

    def ready(self) -> bool:
        """Answers once the actor has started."""
        return True


class ActorFederation:
    """The federation as actors; the driver's end of it."""

    def __init__(self, world: World, seats: Sequence[Seat], device: str, timeout_s: float) -> None:
        """Start all actors side by side and wait until they answer.

        Raises:
            ResourceError: when actors cannot be scheduled within ``timeout_s`` seconds.
        """
        self._handles: list[Actor] = []
        try:
            self._start_all(world, seats, device)
            self._await(timeout_s)
        except BaseException:
            self.close()
            raise

    def _start_all(self, world: World, seats: Sequence[Seat], device: str) -> None:
        ref: Any = ray.put(world)
        clients: dict[int, Actor] = {}
        for seat in (s for s in seats if s.tier == "client"):
            actor = self._start(seat, ClientShell, ref, device, seat.share.gpus)
            clients.update(dict.fromkeys(seat.clients, actor))
        teams = {}
        for seat in (s for s in seats if s.tier == "team"):
            assert seat.team is not None
            members = {client: clients[client] for client in world.data.teams[seat.team]}
            teams[seat.team] = self._start(seat, TeamShell, ref, seat.team, members)
        (top,) = (s for s in seats if s.tier == "server")
        self._server = self._start(top, GlobalShell, ref, clients, teams or None)

    def invite(self) -> list[int]:
        """Who is invited to the next round."""
        clients: list[int] = self._ask(self._server.invite.remote())
        return clients

    def probe(self, clients: Sequence[int]) -> list[CallRecord]:
        """Assess the speed of clients before the next round."""
        records: list[CallRecord] = self._ask(self._server.probe.remote(clients))
        return records

    def run_round(self, decisions: Decisions | None = None) -> Outcome:
        """One global round."""
        outcome: Outcome = self._ask(self._server.run_round.remote(decisions))
        return outcome

    def evaluate(self) -> Evaluations:
        """Evaluate every model on every client's test data."""
        evaluations: Evaluations = self._ask(self._server.evaluate.remote())
        return evaluations

    def snapshot(self) -> Snapshot:
        """All state of the federation."""
        snapshot: Snapshot = from_wire(self._ask(self._server.snapshot.remote()))
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot."""
        self._ask(self._server.restore.remote(to_wire(snapshot)))

    def close(self) -> None:
        """End all actors. A cluster that was joined goes on."""
        for handle in self._handles:
            with suppress(RayError):  # one that is gone already must not keep the others
                ray.kill(handle)

    def _start(self, seat: Seat, shell: type, *args: Any) -> Actor:
        affinity = NodeAffinitySchedulingStrategy(seat.node, soft=False)
        options = {"num_cpus": seat.share.cpus, "num_gpus": seat.share.gpus, "scheduling_strategy": affinity}
        remote: Any = ray.remote(shell)
        actor: Actor = remote.options(**options, max_restarts=0).remote(*args)
        self._handles.append(actor)
        return actor

    def _await(self, timeout_s: float) -> None:
        refs: list[Any] = [handle.ready.remote() for handle in self._handles]
        try:
            ray.get(refs, timeout=timeout_s)
        except GetTimeoutError:
            _, waiting = ray.wait(refs, num_returns=len(refs), timeout=0)
            raise ResourceError(
                f"{len(waiting)} of {len(refs)} actors did not start within {timeout_s:g} s: the cluster is busy with "
                "other work, or out of memory. Free it, ask for less (clients.num_cpus, clients_per_actor), or raise "
                "ray.start_timeout_s."
            ) from None
        except RayTaskError as error:
            _unwrap(error)
        except RayActorError as error:
            raise ActorDiedError(f"an actor died while it started: {_reason(error)}") from None

    def _ask(self, ref: Any) -> Any:
        return _get(ref, "global server")


def _shared(message: Any) -> Any:
    """A message on the wire, once: a large one by way of the object store."""
    wire = to_wire(message)
    return ray.put(wire) if count_bytes(message) > INLINE_BYTES else wire


def _shared_once(messages: Iterable[Any]) -> dict[int, Any]:
    """Messages on the wire by their identity, each one once, however many are sent it."""
    wires: dict[int, Any] = {}
    for message in messages:
        if id(message) not in wires:
            wires[id(message)] = _shared(message)
    return wires


def _get(ref: Any, where: str) -> Any:
    try:
        return ray.get(ref)
    except RayTaskError as error:
        _unwrap(error)
    except RayActorError as error:
        raise ActorDiedError(
            f"{where}: the actor's process ended: {_reason(error)}. Nothing of this round was kept; the last "
            "checkpoint can be resumed."
        ) from None
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(
            f"{where}: Ray lost or could not keep what it held ({type(error).__name__}: {reason}). The "
            "last checkpoint can be resumed."
        ) from None


def _unwrap(error: RayTaskError) -> NoReturn:
    # The error as it was raised in the actor: its message already says who and when.
    if isinstance(error.cause, Exception):
        raise error.cause from None
    raise error


def _reason(error: RayActorError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("in its creation task" in line for line in lines):
        return lines[-1]  # what the actor's own start raised
    for text in lines:
        if text.startswith("The actor is dead because"):
            return text.removeprefix("The actor is dead because ").rstrip(".")
    return "it was killed or crashed (out of memory is the usual cause)"


def _names(clients: Sequence[int]) -> str:
    shown = ", ".join(map(str, clients[:8])) + (", …" if len(clients) > 8 else "")
    return f"client{'s' * (len(clients) > 1)} {shown}"
