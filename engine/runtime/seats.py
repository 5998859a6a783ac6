"""Which client lives in which actor, and which actor on which node. Arithmetic only: free of Ray.

Placement never changes a result; it decides only what runs side by side.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import islice, pairwise, repeat
from typing import Literal

import numpy as np

from strata.engine.clock.profiles import Profiles
from strata.engine.config.schema import ClientsConfig
from strata.engine.data.dataset import IntArray
from strata.engine.errors import ConfigError, ResourceError
from strata.engine.rounds.world import World

Strategy = Literal["pack", "spread"]
TOLERANCE = 1e-6  # Ray counts resources in ten-thousandths; ten shares of 0.1 must fill one
SLACK = 0.2  # how much larger than others an actor may become, for a team's server to live with all of its clients


@dataclass(frozen=True)
class Share:
    """CPUs and GPUs of one actor, fractions allowed."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        """As in ``1 CPU and 0.25 GPU``; what is zero is left out."""
        parts = [f"{value:g} {kind}" for value, kind in ((self.cpus, "CPU"), (self.gpus, "GPU")) if value]
        return " and ".join(parts) or "no CPU"


@dataclass(frozen=True)
class Node:
    """A node of the cluster, by Ray's id, and the CPUs and GPUs that it has in total."""

    id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Seat:
    """An actor to start: its tier, share and node; ids of the clients in it, and of the teams whose servers are."""

    tier: Literal["server", "team", "client"]
    share: Share
    node: str
    clients: tuple[int, ...] = ()
    teams: tuple[int, ...] = ()


def _alike(clients: Sequence[int], shares: Sequence[Share]) -> dict[Share, list[int]]:
    """Clients by share, both in the order given."""
    alike: dict[Share, list[int]] = {}
    for client in clients:
        alike.setdefault(shares[client], []).append(client)
    return alike


def _split(alike: Sequence[int], count: int, team_of: Sequence[int] | IntArray) -> list[tuple[int, ...]]:
    """So many parts of equal size; parts of whole teams, where that makes none larger by more than :data:`SLACK`."""
    bounds = [round(i * len(alike) / count) for i in range(count + 1)]
    if len(team_of):
        teams = np.asarray(team_of)[list(alike)]
        ends = np.append(np.flatnonzero(np.diff(teams)) + 1, len(alike))
        near = [0, *(int(ends[np.abs(ends - bound).argmin()]) for bound in bounds[1:])]
        sizes = np.diff(near)
        if sizes.min() > 0 and sizes.max() <= (1 + SLACK) * len(alike) / count:
            bounds = near
    return [tuple(alike[a:b]) for a, b in pairwise(bounds)]


def _homes(groups: Sequence[Sequence[int]], team_of: Sequence[int] | IntArray) -> dict[int, int]:
    """By team, which of the groups all of its clients are in; a team with clients in several is left out."""
    homes: dict[int, int] = {}
    for number, group in enumerate(groups if len(team_of) else []):
        for team in np.unique(np.asarray(team_of)[list(group)]).tolist():
            homes[team] = number if team not in homes else -1
    return {team: number for team, number in homes.items() if number >= 0}


def _ceil(number: int, size: int) -> int:
    return -(-number // size)


def plan_seats(
    nodes: Sequence[Node],
    server: Share,
    team: Share,
    teams: Sequence[int],
    clients: Sequence[int],
    shares: Sequence[Share],
    per_actor: int | Literal["auto"],
    strategy: Strategy = "pack",
    team_of: Sequence[int] | IntArray = (),
    taken: Sequence[Seat] = (),
) -> list[Seat]:
    """Seat the global server, the team servers and the client actors on the nodes.

    Args:
        nodes: with their total resources.
        server: share of the global server's actor.
        team: share of each team server's actor.
        teams: team ids.
        clients: client ids in the order in which neighbours should share an actor.
        shares: what a client's actor is given, by client id.
        per_actor: clients per actor; ``auto``: one each while that fits, else the fewest per actor that fit.
        strategy: ``pack`` fills a node before the next; ``spread`` uses the node with most CPUs left.
        team_of: the team of each client, by client id, where a team's server is to live in the actor that holds all
            of its clients, if there is one; empty: each team server has an actor of its own.
        taken: by other runs, on the same nodes.

    Raises:
        ResourceError: when it does not fit, with the numbers and a remedy.
    """
    servers = [(server, 1), (team, len(teams))]
    alike = _alike(clients, shares)
    for size in _sizes(nodes, servers, alike) if per_actor == "auto" else [per_actor]:
        actors = [(share, _ceil(len(members), size)) for share, members in alike.items()]
        found = _assign([*servers, *actors], nodes, strategy, taken)
        if found is not None:
            break
    groups = [group for members in alike.values() for group in _split(members, _ceil(len(members), size), team_of)]
    homes = _homes(groups, team_of)
    hosted: list[list[int]] = [[] for _ in groups]
    for team_id, number in homes.items():
        hosted[number].append(team_id)
    top, *places = repeat("", 1 + len(teams) + len(groups)) if found is None else found
    seats = [Seat("server", server, top)]
    seats += [Seat("team", team, node, teams=(t,)) for t, node in zip(teams, places, strict=False) if t not in homes]
    for group, own, node in zip(groups, hosted, places[len(teams) :], strict=True):
        seats.append(Seat("client", shares[group[0]], node, group, tuple(own)))
    if found is None:
        raise ResourceError(_explain(seats, nodes, len(clients)))
    return seats


def _sizes(
    nodes: Sequence[Node], servers: Sequence[tuple[Share, int]], alike: Mapping[Share, Sequence[int]]
) -> Iterator[int]:
    """Clients per actor that are worth trying, the fewest first; the last puts all that are alike into one actor.

    What the sums rule out is passed over, and of the sizes that give the same actors only the smallest is tried.
    """
    counts = {share: len(members) for share, members in alike.items()}
    last = max(1, sum(counts.values()))
    # Larger actors are fewer and need less in sum, so the smallest that could fit is found by bisection.
    size = 1 + bisect_left(range(1, last), True, key=lambda tried: _could_fit(nodes, servers, counts, tried))
    while size < last:
        yield size
        actors = [(n, _ceil(n, size)) for n in counts.values()]
        size = min((_ceil(n, count - 1) for n, count in actors if count > 1), default=last)
    yield last


def _could_fit(
    nodes: Sequence[Node], servers: Sequence[tuple[Share, int]], counts: Mapping[Share, int], size: int
) -> bool:
    wanted = [*servers, *((share, _ceil(n, size)) for share, n in counts.items())]
    cpus, gpus = sum(n * share.cpus for share, n in wanted), sum(n * share.gpus for share, n in wanted)
    there = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return cpus <= there[0] + TOLERANCE and gpus <= there[1] + TOLERANCE


class _Free:
    """What is left of a node: CPUs, and of each GPU its share, because an actor's fraction must lie on one GPU."""

    def __init__(self, node: Node) -> None:
        self.cpus = node.cpus
        self.gpus = [1.0] * int(node.gpus)

    def take(self, share: Share) -> bool:
        """Seat one more actor; False, and nothing taken, when it does not fit."""
        if self.cpus + TOLERANCE < share.cpus:
            return False
        gpus = list(self.gpus)
        whole, part = divmod(share.gpus, 1.0) if share.gpus >= 1 else (0.0, share.gpus)
        for need in [1.0] * int(whole) + [part] * (part > 0):
            fitting = [i for i, gpu in enumerate(gpus) if gpu + TOLERANCE >= need]
            if not fitting:
                return False
            # The fullest that still fits, as Ray does, so that whole GPUs stay whole.
            gpus[min(fitting, key=gpus.__getitem__)] -= need
        self.cpus, self.gpus = self.cpus - share.cpus, gpus
        return True


def _assign(
    wanted: Sequence[tuple[Share, int]], nodes: Sequence[Node], strategy: Strategy, taken: Sequence[Seat]
) -> list[str] | None:
    """The node of each actor, for runs of so many actors of one share; None when one finds no place."""
    left = {node.id: _Free(node) for node in nodes}
    for seat in taken:
        if seat.node in left:  # else its node is gone
            left[seat.node].take(seat.share)
    places: list[str] = []
    for share, count in wanted:
        found = list(islice((_packed if strategy == "pack" else _spread)(left, share), count))
        if len(found) < count:
            return None
        places += found
    return places


# Within a run of equal shares a node that is too full for one is so for all that follow, and is not asked again.


def _packed(left: Mapping[str, _Free], share: Share) -> Iterator[str]:
    """Seat one actor after the other, each on the first node that takes it, until none does."""
    for name, free in left.items():
        while free.take(share):
            yield name


def _spread(left: Mapping[str, _Free], share: Share) -> Iterator[str]:
    """Seat one actor after the other, each on the node with most CPUs left that takes it, until none does."""
    order = [(-free.cpus, index, name) for index, (name, free) in enumerate(left.items())]
    heapify(order)
    while order:
        _, index, name = order[0]
        if left[name].take(share):
            heapreplace(order, (-left[name].cpus, index, name))
            yield name
        else:
            heappop(order)


def _explain(wanted: Sequence[Seat], nodes: Sequence[Node], clients: int) -> str:
    kinds = Counter((seat.tier, seat.share) for seat in wanted)
    names = {"server": "global server", "team": "team server", "client": "client"}
    asked = "; ".join(
        f"{n} {names[tier]} actor{'s' * (n > 1)} of {share}{' each' * (n > 1)}"
        for (tier, share), n in kinds.items()
        if share.cpus or share.gpus
    )
    cpus = sum(seat.share.cpus for seat in wanted)
    gpus = sum(seat.share.gpus for seat in wanted)
    has = ", ".join(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in nodes)
    remedies = []
    actors = sum(1 for seat in wanted if seat.tier == "client")
    for key, kind, need, there in (
        ("num_cpus", "CPU", cpus, sum(node.cpus for node in nodes)),
        ("num_gpus", "GPU", gpus, sum(node.gpus for node in nodes)),
    ):
        if need > there and there > 0 and actors:
            remedies.append(f"lower clients.{key} to {int(there / actors * 1e4) / 1e4:g}")
        elif need > there:
            remedies.append(f"set clients.{key}=0, or join a cluster that has {need:g} {kind} (ray.address=…)")
    if actors > 1:
        remedies.append(f"set clients_per_actor=auto or more than {clients // actors}")
    else:
        remedies.append("ask for less per actor: each must fit one node, and a fraction of a GPU one GPU")
    advice = " or ".join(remedies)
    return (
        f"{asked} = {cpus:g} CPU and {gpus:g} GPU; the cluster has {len(nodes)} node{'s' * (len(nodes) != 1)} "
        f"with {has}. {advice[0].upper()}{advice[1:]}."
    )


def resources(config: ClientsConfig, world: World) -> list[Share]:
    """What each client's actor is given, by client id: its device class's share, or the tier's.

    Raises:
        ConfigError: when resources are given for a class that no client has.
    """
    profiles = Profiles.of(world.profiles)
    for name in config.classes:
        if name not in profiles.devices:
            raise ConfigError(
                f"clients.classes.{name}: no client is of that class. Present: {', '.join(sorted(profiles.devices))}."
            )
    default = Share(config.num_cpus, config.num_gpus)
    by_class = {name: Share(part.num_cpus, part.num_gpus) for name, part in config.classes.items()}
    shares = [by_class.get(kind.device, default) for kind in profiles.kinds]
    return [shares[kind] for kind in profiles.kind_of.tolist()]
