"""The tiers as Ray actors: thin shells around what :mod:`strata.engine.rounds` does, and the driver's end of them.

Each actor is built from the same :class:`~strata.engine.rounds.world.World`, which lies in the object store once per
node.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from strata.engine.errors import ActorDiedError, ActorStartError, SlowStartError
from strata.engine.method.find import MAIN
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import ClientPool
from strata.engine.rounds.server import GlobalServer, Rounds, serve
from strata.engine.rounds.team import LocalTeams
from strata.engine.rounds.world import World
from strata.engine.runtime.asking import Actor, Remote, raise_cause, raised_at_start, reason_of
from strata.engine.runtime.bundles import scheduling
from strata.engine.runtime.remote import RayClients, RayTeams
from strata.engine.runtime.seats import Seat
from strata.engine.runtime.shells import Shell
from strata.engine.training.device import resolve_device


class Actors:
    """A federation as actors: what starts them, reaches the global server's, and ends them."""

    def __init__(self, world: World, seats: Sequence[Seat], device: str, timeout_s: float) -> None:
        """Start all actors side by side and wait until they answer.

        Args:
            world: the run; it is put into the object store once.
            seats: the actors to start: of clients, of team servers, and exactly one global server.
            device: as in ``training.device``; each client actor resolves it for its own share of a GPU.
            timeout_s: wall seconds within which all must have answered.

        Raises:
            SlowStartError: when actors cannot be scheduled in time.
            StrataError: what an actor's start was refused for, e.g. because there is no CUDA.
            ActorStartError: when an actor's own start raises something else.
            ActorDiedError: when an actor's process ends while it starts, with the reason.
        """
        self.handles: list[Actor] = []
        try:
            top = self._start_all(world, seats, device)
            self._await(timeout_s)
        except BaseException:
            self.close()
            raise
        self.rounds: Rounds = cast(Rounds, Remote(top, "global server"))

    def _start_all(self, world: World, seats: Sequence[Seat], device: str) -> Actor:
        ref = ray.put(world)
        hosts = [seat for seat in seats if seat.tier == "client"]
        alike = len({seat.share for seat in hosts}) == 1
        actors = [self._start(seat, client_household, ref, device, seat.share.gpus, seat.teams) for seat in hosts]
        homes = np.zeros(len(world.data.clients), np.int32)
        for number, seat in enumerate(hosts):
            homes[list(seat.clients)] = number
        clients = actors, ray.put(homes)
        apart = [seat for seat in seats if seat.tier == "team"]
        servers = [*actors, *(self._start(seat, team_household, ref, seat.teams, clients, alike) for seat in apart)]
        teams = {team: number for number, seat in enumerate([*hosts, *apart]) for team in seat.teams}
        (top,) = (s for s in seats if s.tier == "server")
        return self._start(top, global_server, ref, clients, (servers, teams) if teams else None, alike)

    def close(self) -> None:
        """End all actors; closing again does nothing. A cluster that was joined goes on."""
        while self.handles:
            handle = self.handles.pop()
            if ray.is_initialized():  # else they ended with it, and asking would start a new one
                with suppress(RayError):  # one that is gone already must not keep the others
                    ray.kill(handle)

    def _start(self, seat: Seat, make: Callable[..., object], *args: object) -> Actor:
        remote: Any = ray.remote(Shell)
        actor: Actor = remote.options(**scheduling(seat), max_restarts=0).remote(make, *args)
        self.handles.append(actor)
        return actor

    def _await(self, timeout_s: float) -> None:
        refs: list[ObjectRef[object]] = [handle.ready.remote() for handle in self.handles]
        try:
            ray.get(refs, timeout=timeout_s)
        except GetTimeoutError:
            _, waiting = ray.wait(refs, num_returns=len(refs), timeout=0)
            raise SlowStartError(
                f"{len(waiting)} of {len(refs)} actors did not start within {timeout_s:g} s: the cluster is busy with "
                "other work, or out of memory. Free it, ask for less (clients.num_cpus, clients_per_actor), or raise "
                "ray.start_timeout_s."
            ) from None
        except RayTaskError as error:
            raise_cause(error)
        except RayActorError as error:
            kind = ActorStartError if raised_at_start(error) else ActorDiedError
            raise kind(f"an actor died while it started: {reason_of(error)}") from None


@dataclass(frozen=True)
class Household:
    """What an actor's shell holds below the global server: clients, or how to reach them, and teams' servers."""

    clients: ClientPool
    teams: LocalTeams


def client_household(world: World, device: str, gpus: float, teams: Sequence[int]) -> Household:
    """The clients of one actor, made in its process, and the servers of those teams whose clients all live here.

    The actor has the share ``gpus`` of a GPU; its clients train on ``device``.

    Raises:
        ResourceError: when CUDA is asked for and not there.
    """
    _bring(world.main)
    clients = ClientHost(world, resolve_device(device, gpus))
    return Household(clients, LocalTeams(world, clients, teams))


Homes = tuple[Sequence[Actor], ObjectRef[NDArray[np.int32]]]
"""The client actors, and where the column lies that says in which of them each client lives, ``(N,)``."""


def team_household(world: World, teams: Sequence[int], clients: Homes, alike: bool) -> Household:
    """The servers of some teams, made in their actor's process; ``clients`` are the client actors they reach."""
    _bring(world.main)
    actors, homes = clients
    named = f" (team {', '.join(map(str, teams))})"
    reached = RayClients(actors, ray.get(homes), named, _work(world, alike))
    return Household(reached, LocalTeams(world, reached, teams))


def global_server(
    world: World, clients: Homes, teams: tuple[Sequence[Actor], Mapping[int, int]] | None, alike: bool
) -> GlobalServer:
    """The global server, made in its actor's process.

    Args:
        world: the run.
        clients: the client actors: its children where there are no teams, and always those it probes.
        teams: actors, and in which of them each team's server lives; None for a flat method.
        alike: whether client actors have equal shares of the machine.
    """
    _bring(world.main)
    actors, homes = clients
    pool = RayClients(actors, ray.get(homes), work=_work(world, alike))
    return serve(world, pool, None if teams is None else RayTeams(*teams))


def _bring(names: Mapping[str, object]) -> None:
    """Give this process what the run needs of the script or notebook that began it, under the same names."""
    here = vars(sys.modules[MAIN])
    for name, value in names.items():
        here.setdefault(name, value)


def _work(world: World, alike: bool) -> NDArray[np.integer] | None:
    """What a call of each client takes, where any actor may make it: nothing is kept, and actors are ``alike``."""
    return world.train_samples if alike and world.stateless else None
