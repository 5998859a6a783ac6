"""The tiers as Ray actors: thin shells around what :mod:`strata.engine.rounds` does, and the driver's end of them.

Each actor is built from the same :class:`~strata.engine.rounds.world.World`, which lies in the object store once per
node.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from strata.engine.errors import ActorDiedError, ResourceError
from strata.engine.method.situation import Decisions
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import (
    ClientCall,
    ClientReply,
    EvaluationCall,
    Evaluations,
    Outcome,
    TeamCall,
    TeamReply,
)
from strata.engine.rounds.records import CallRecord
from strata.engine.rounds.server import GlobalServer
from strata.engine.rounds.team import TeamServer
from strata.engine.rounds.world import World
from strata.engine.runtime.remote import Actor, RayClients, RayTeams, fetch, raise_cause, reason_of
from strata.engine.runtime.seats import Seat
from strata.engine.state.snapshot import Snapshot
from strata.engine.training.device import resolve_device
from strata.engine.tree import from_wire, to_wire


class ClientShell:
    """One or several clients in one process."""

    def __init__(self, world: World, device: str, gpus: float) -> None:
        """See :class:`~strata.engine.rounds.clients.ClientHost`; ``gpus`` is this actor's share."""
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


class TeamShell:
    """One team server."""

    def __init__(self, world: World, team: int, clients: Mapping[int, Actor]) -> None:
        """See :class:`~strata.engine.rounds.team.TeamServer`."""
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


class GlobalShell:
    """The global server."""

    def __init__(self, world: World, clients: Mapping[int, Actor], teams: Mapping[int, Actor] | None) -> None:
        """See :class:`~strata.engine.rounds.server.GlobalServer`."""
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
            raise_cause(error)
        except RayActorError as error:
            raise ActorDiedError(f"an actor died while it started: {reason_of(error)}") from None

    def _ask(self, ref: Any) -> Any:
        return fetch(ref, "global server")
