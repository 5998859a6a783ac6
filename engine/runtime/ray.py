"""Starting the tiers on Ray: connecting, counting resources, seating actors."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray
from ray.exceptions import RayError

from strata.engine.config.schema import RayConfig, RunConfig
from strata.engine.data.dataset import Dataset
from strata.engine.data.mapped import Mapped
from strata.engine.errors import ClusterError, ResourceError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.find import MAIN, path_named
from strata.engine.notify import Notify, Step
from strata.engine.rounds.world import World
from strata.engine.runtime import local_ray
from strata.engine.runtime.actors import Actors
from strata.engine.runtime.bundles import advised, held, node_of, nodes
from strata.engine.runtime.joining import await_nodes, join
from strata.engine.runtime.seats import Seat, Share, plan_seats
from strata.engine.stopwatch import Seconds


class RayRuntime(Actors):
    """Actors, and the Ray they live on if a run of this process started or joined it."""

    def __init__(
        self, world: World, seats: list[Seat], config: RunConfig, owns_ray: bool, before: "RayRuntime | None" = None
    ) -> None:
        """Start all actors; see :class:`~strata.engine.runtime.actors.Actors`."""
        self._owns_ray, self._lost = owns_ray, False
        self.seats = [replace(seat, clients=()) for seat in seats]  # a million ids would take 40 MB
        self.started: Seconds = {}
        super().__init__(world, seats, config.training.device, config.ray.start_timeout_s, before)
        _HELD.add(self)
        if owns_ray:
            _OPEN.add(self)
        self.head: str = getattr(ray.get_runtime_context(), "gcs_address", "")  # a Ray client does not know it

    def abandon(self) -> None:
        """End what can be ended once the head is gone, when Ray itself would wait for it: a local Ray's processes."""
        self._lost = True
        if self._owns_ray:
            local_ray.abandon()

    def retire(self) -> None:
        """End those actors that do not answer; where none does, all of them, and leave Ray as if it were lost."""
        self.keep_the_living()
        if not self.handles:
            self._lost = True
            self.close()

    def close(self) -> None:
        """End the actors; leave Ray if runs of this process came to it, this is the last, and it is not :func:`kept`.

        Closing again does nothing: by then Ray may be somebody else's.
        """
        super().close()
        _HELD.discard(self)
        if self._owns_ray:
            self._owns_ray = False
            _OPEN.discard(self)
            _leave(self._lost)


_OPEN: set[RayRuntime] = set()
"""Runtimes on a Ray that this process started or joined for a run, and that were not closed yet."""

_HELD: set[RayRuntime] = set()
"""All runtimes of this process whose actors were not ended yet."""


_KEPT: set[object] = set()
"""Who wants the Ray that runs of this process came to to stay between them."""

_asked: tuple[object, ...] | None = None
"""What the Ray was asked for that runs of this process started or joined; None: they came to none."""


@contextmanager
def kept() -> Iterator[None]:
    """Let the Ray that runs start or join stay between them, until the end; one that is lost is left all the same."""
    holder = object()
    _KEPT.add(holder)
    try:
        yield
    finally:
        _KEPT.discard(holder)
        _leave()


def _leave(lost: bool = False) -> None:
    """Shut down Ray, or the way to it, once no runtime needs it, if runs of this process came to it."""
    global _asked
    if _asked is not None and not _OPEN and (lost or not _KEPT):
        _asked = None
        ray.shutdown()


def start(
    config: RunConfig, world: World, shares: Sequence[Share], notify: Notify, before: RayRuntime | None = None
) -> RayRuntime:
    """Connect to Ray, check that the actors of a run fit, and start them side by side.

    Args:
        config: the run's.
        world: what the actors are made from.
        shares: CPUs and GPUs of each client's actor, by client id.
        notify: told what was started, and in how many seconds.
        before: the runtime that this one takes the place of, whose living actors are used again.

    Raises:
        ClusterError: when the cluster cannot be reached.
        ResourceError: when the actors do not fit or cannot be started.
        StrataError: what an actor's start was refused for.
        ActorDiedError: when one dies while it starts.
    """
    began = time.perf_counter()
    if not _is_there():
        notify(Step(f"joining Ray at {config.ray.address}" if config.ray.address else "starting Ray"))
    with kept():  # also when a federation that was forgotten is found, and closed, meanwhile
        owns_ray = connect(config.ray, packages_of(config), notify)
        connected = time.perf_counter()
        try:
            seats = _seats(config, world, shares, _HELD - {before})
            notify(Step(f"placing {len(seats)} actors"))
            runtime = RayRuntime(world, seats, config, owns_ray, before)
        except BaseException as error:
            if owns_ray:
                _leave(lost=True)
            if isinstance(error, RayError):  # as while a node is going: to start again may help
                raise ClusterError(
                    f"Ray does not answer while actors start: {str(error).strip().splitlines()[0]}"
                ) from None
            raise
    ended = time.perf_counter()
    runtime.started = {"starting Ray": connected - began, "starting actors": ended - connected}
    notify(f"{describe(seats)}: started in {ended - began:.1f} s")
    if (nodes := len({node_of(seat.node) for seat in seats})) > 1:
        notify(f"data: {describe_data(world.data.dataset, nodes)}")
    return runtime


def connect(config: RayConfig, packages: Sequence[str], notify: Notify) -> bool:
    """Join the configured cluster, or start a local Ray; True where Ray is to be shut down after the last run on it.

    A Ray that this process is connected to already is used as it is, once it has ``ray.nodes`` nodes. The nodes of a
    cluster that is joined are sent the code of Strata and of ``packages`` where they lack it.

    Raises:
        ClusterError: when there is no such cluster, or its nodes are too few or unfit.
    """
    global _asked
    asked = config.address, config.num_cpus, config.num_gpus, *(packages if config.address else ())
    if _asked not in (None, asked):
        _leave(lost=True)  # one that was kept, of runs that asked for something else
    if _is_there():
        await_nodes(config)
        return _asked is not None  # else whoever brought it up also ends it
    if not config.address:
        try:
            local_ray.start(config.num_cpus, config.num_gpus)
        except (OSError, ValueError, RuntimeError, RayError) as error:
            first = str(error).strip().splitlines()[0]
            raise ClusterError(f"a local Ray could not be started: {first} runtime=inprocess needs none.") from None
    else:
        local_ray.forget()  # one that has begun though nobody asks for it
        join(config, packages, notify)
    _asked = asked
    return True


def _is_there() -> bool:
    """Whether this process is connected to a Ray by other means than one that has begun for the run to come."""
    return ray.is_initialized() and not local_ray.has_begun()


def describe(seats: list[Seat]) -> str:
    """The actors in ``seats`` in one line for people: how many of each tier, clients per client actor, and nodes."""
    sizes = [len(seat.clients) for seat in seats if seat.tier == "client"]
    own = sum(seat.tier == "team" for seat in seats)
    beside = sum(len(seat.teams) for seat in seats if seat.tier == "client")
    each = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    nodes = len({node_of(seat.node) for seat in seats})
    return ", ".join(
        [f"{len(sizes)} client actor{'s' * (len(sizes) > 1)} with {each} client{'s' * (max(sizes) > 1)} each"]
        + [f"{beside} team server{'s' * (beside > 1)} beside {'their' if beside > 1 else 'its'} clients"] * bool(beside)
        + [f"{own} team server{'s' * (own > 1)}"] * bool(own)
        + [f"1 global server on {nodes} node{'s' * (nodes > 1)}"]
    )


def describe_data(dataset: Dataset, nodes: int) -> str:
    """How ``nodes`` nodes come by the data, in a line for people, with bytes."""
    arrays = (dataset.x, dataset.y)
    sent = sum(array.nbytes for array in arrays if not isinstance(array, Mapped))
    there = sum(array.nbytes for array in arrays if isinstance(array, Mapped))
    folders = dict.fromkeys(str(Path(str(array.filename)).parent) for array in arrays if isinstance(array, Mapped))
    said = [f"{there:,} bytes are read by each node from its own {', '.join(folders)}"] * bool(there)
    said += [f"{sent:,} bytes went through the object store, once to each of {nodes} nodes"] * bool(sent)
    return "; ".join(said)


def _seats(config: RunConfig, world: World, shares: Sequence[Share], beside: Collection[RayRuntime]) -> list[Seat]:
    # Clients of one team side by side, so that a team round reaches few actors.
    order = np.argsort(world.team_of, kind="stable").tolist()
    team = Share(config.teams.num_cpus, config.teams.num_gpus)
    taken = [held(seat) for runtime in beside for seat in runtime.seats]
    try:
        return plan_seats(
            nodes(),
            Share(config.server.num_cpus, config.server.num_gpus),
            team,
            sorted(world.data.teams),
            order,
            shares,
            config.clients_per_actor,
            config.ray.placement,
            world.team_of if _beside_clients(config, world, team) else (),
            taken,
        )
    except ResourceError as error:
        raise advised(error if not taken else ResourceError(f"{_held(taken, len(beside))} {error}")) from None


def _held(seats: Sequence[Seat], federations: int) -> str:
    """What other federations of this process have, and how to have it back."""
    all_of_them = Share(sum(seat.share.cpus for seat in seats), sum(seat.share.gpus for seat in seats))
    several = federations > 1
    return (
        f"{federations} federation{'s' * several} of this process {'are' if several else 'is'} still open, with "
        f"{all_of_them}: close {'them' if several else 'it'} first (federation.close(), or open it by `with`). Beside "
        "that there is no place:"
    )


def _beside_clients(config: RunConfig, world: World, team: Share) -> bool:
    """Whether a team server may live with its clients: they stay its clients, and it asks for nothing of its own."""
    method = world.algorithm
    stay = isinstance(method, TieredAlgorithm) and not method.regroups
    return stay and config.teams.placement == "auto" and team == Share(0, 0)


def packages_of(config: RunConfig) -> list[str]:
    """Top-level packages, beside Strata, that the cluster's nodes need: those of a user's method and model."""
    named = path_named(config.algorithm)
    own = [named.partition(":")[0]] if {".", ":"} & set(named) or named != config.algorithm else []
    own += [member.name.partition(":")[0] for member in config.model.members() if ":" in member.name]
    own += [path.partition(":")[0] for path in config.evaluation.own_metrics.values()]
    return list(dict.fromkeys(name.split(".")[0] for name in own if name != MAIN and not name.startswith("strata.")))
