"""The tiers as Ray actors: thin shells around what :mod:`strata.engine.rounds` does, and the driver's end of them.

Each actor is built from the same :class:`~strata.engine.rounds.world.World`, which lies in the object store once per
node.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, compress
from operator import not_
from typing import Any, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from strata.engine.errors import ActorDiedError, ActorStartError, SlowStartError, StrataError
from strata.engine.method.find import MAIN
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import ClientPool
from strata.engine.rounds.server import GlobalServer, Rounds, serve
from strata.engine.rounds.team import LocalTeams
from strata.engine.rounds.world import World
from strata.engine.runtime.asking import Actor, Process, Remote, raise_cause, raised_at_start, reason_of
from strata.engine.runtime.bundles import scheduling
from strata.engine.runtime.remote import RayClients, RayTeams
from strata.engine.runtime.seats import Seat, Share
from strata.engine.runtime.shells import Shell
from strata.engine.training.device import resolve_device

ANSWER_S = 2.0
"""Wall seconds in which an actor answers that has nothing to do, or little; others begin anew as soon as that."""

Place = tuple[str, Share]
"""The node of an actor, and its share of it: processes with equal ones can stand in for one another."""


class Actors:
    """A federation as actors: what starts them, reaches the global server's, and ends them."""

    def __init__(
        self, world: World, seats: Sequence[Seat], device: str, timeout_s: float, before: "Actors | None" = None
    ) -> None:
        """Start all actors side by side and wait until they answer.

        Args:
            world: the run; it is put into the object store once.
            seats: the actors to start: of clients, of team servers, and exactly one global server.
            device: as in ``training.device``; each client actor resolves it for its own share of a GPU.
            timeout_s: wall seconds within which all must have answered.
            before: those that began before, whose processes are used again where one is wanted in their place; the
                others of them are ended.

        Raises:
            SlowStartError: when actors cannot be scheduled in time.
            StrataError: what an actor's start was refused for, e.g. because there is no CUDA.
            ActorStartError: when an actor's own start raises something else.
            ActorDiedError: when an actor's process ends while it starts, with the reason.
        """
        self.handles: list[Process] = []
        self._places: list[Place] = []
        self._begun: list[ObjectRef[bool]] = []
        self._spare = defaultdict[Place, list[Process]](list)
        self._term = 0
        try:
            if before is not None:
                self._take_over(before)
            top = self._start_all(world, seats, device)
            self._end(*chain(*self._spare.values()))  # or they would keep what the others wait for
            self._await(timeout_s)
        except BaseException:
            self._end(*chain(*self._spare.values()))
            self.close()
            raise
        remote = Remote(top, "global server")
        self.rounds: Rounds = cast(Rounds, remote)
        self.hand_over: Callable[..., None] | None = remote.hand_over

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
        self._end(*self.handles)
        self.handles, self._places = [], []

    def keep_the_living(self) -> None:
        """End those actors that do not answer at once; all of them where none does, or Ray itself does not."""
        alive = [False] * len(self.handles)
        if self.handles and ray.is_initialized():
            with suppress(RayError):
                refs: list[ObjectRef[bool]] = [process.ready.remote() for process in self.handles]
                ray.wait(refs, num_returns=len(refs), timeout=ANSWER_S)
                alive = [_answers(ref) for ref in refs]
        self._end(*compress(self.handles, map(not_, alive)))
        self.handles, self._places = list(compress(self.handles, alive)), list(compress(self._places, alive))

    def _take_over(self, before: "Actors") -> None:
        self._term = before._term + 1
        for place, process in zip(before._places, before.handles, strict=True):
            self._spare[place].append(process)
        before.handles, before._places = [], []

    def _start(self, seat: Seat, make: Callable[..., object], *args: object) -> Actor:
        place = seat.node, seat.share
        if self._spare[place]:
            process = self._spare[place].pop()
            self._begun.append(process.begin_again.remote(self._term, make, *args))
        else:
            remote: Any = ray.remote(Shell)
            process = remote.options(**scheduling(seat), max_restarts=0).remote(self._term, make, *args)
            self._begun.append(process.ready.remote())
        self.handles.append(process)
        self._places.append(place)
        return Actor(process, self._term)

    def _end(self, *processes: Process) -> None:
        for process in processes:
            if ray.is_initialized():  # else they ended with it, and asking would start a new one
                with suppress(RayError):  # one that is gone already must not keep the others
                    ray.kill(process)

    def _await(self, timeout_s: float) -> None:
        refs = self._begun
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
            if not isinstance(error.cause, StrataError):  # a new process would have died of it
                raise ActorStartError(f"an actor could not begin again: {error.cause!r}") from None
            raise_cause(error)
        except RayActorError as error:
            kind = ActorStartError if raised_at_start(error) else ActorDiedError
            raise kind(f"an actor died while it started: {reason_of(error)}") from None


def _answers(ref: ObjectRef[bool]) -> bool:
    """Whether an actor has answered, though it may have been with what its start was refused for."""
    try:
        ray.get(ref, timeout=0)
    except RayTaskError:
        return True
    except RayError:  # it is gone, or has not answered yet
        return False
    return True


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
