"""Which client lives in which actor, and which actor on which node. Arithmetic only: free of Ray.

Placement never changes a result; it decides only what runs side by side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from engine.errors import ResourceError

Strategy = Literal["pack", "spread"]
TOLERANCE = 1e-6  # Ray counts resources in ten-thousandths; ten shares of 0.1 must fill one


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
    """A node of the cluster and what it has."""

    id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Seat:
    """An actor to start: its tier, share and node; the client ids it hosts, or its team."""

    tier: Literal["server", "team", "client"]
    share: Share
    node: str
    clients: tuple[int, ...] = ()
    team: int | None = None


def group_clients(clients: Sequence[int], shares: Mapping[int, Share], per_actor: int) -> list[tuple[int, ...]]:
    """Even groups of at most ``per_actor`` clients with equal shares, in the order given."""
    groups: list[tuple[int, ...]] = []
    for share in dict.fromkeys(shares[client] for client in clients):
        alike = [client for client in clients if shares[client] == share]
        count = -(-len(alike) // per_actor)
        bounds = [round(i * len(alike) / count) for i in range(count + 1)]
        groups += [tuple(alike[a:b]) for a, b in pairwise(bounds)]
    return groups


def plan_seats(
    nodes: Sequence[Node],
    server: Share,
    team: Share,
    teams: Sequence[int],
    clients: Sequence[int],
    shares: Mapping[int, Share],
    per_actor: int | Literal["auto"],
    strategy: Strategy = "pack",
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

    Raises:
        ResourceError: when it does not fit, with the numbers and a remedy.
    """
    servers = [Seat("server", server, "")] + [Seat("team", team, "", team=t) for t in teams]
    sizes = range(1, len(clients) + 1) if per_actor == "auto" else [per_actor]
    for size in sizes:
        if size != sizes[-1] and not _could_fit(nodes, servers, clients, shares, size):
            continue
        groups = group_clients(clients, shares, size)
        wanted = servers + [Seat("client", shares[group[0]], "", clients=group) for group in groups]
        seats = _assign(wanted, nodes, strategy)
        if seats is not None:
            return seats
    raise ResourceError(_explain(wanted, nodes, len(clients)))


def _could_fit(
    nodes: Sequence[Node], servers: Sequence[Seat], clients: Sequence[int], shares: Mapping[int, Share], size: int
) -> bool:
    # The sums alone, so that thousands of sizes can be passed over without seating anybody.
    alike = Counter(shares[client] for client in clients)
    cpus = sum(seat.share.cpus for seat in servers) + sum(-(-n // size) * share.cpus for share, n in alike.items())
    gpus = sum(seat.share.gpus for seat in servers) + sum(-(-n // size) * share.gpus for share, n in alike.items())
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


def _assign(wanted: Sequence[Seat], nodes: Sequence[Node], strategy: Strategy) -> list[Seat] | None:
    left = {node.id: _Free(node) for node in nodes}
    seats = []
    for seat in wanted:
        order = sorted(left, key=lambda name: -left[name].cpus) if strategy == "spread" else list(left)
        node = next((name for name in order if left[name].take(seat.share)), None)
        if node is None:
            return None
        seats.append(replace(seat, node=node))
    return seats


def _explain(wanted: Sequence[Seat], nodes: Sequence[Node], clients: int) -> str:
    kinds = Counter((seat.tier, seat.share) for seat in wanted)
    names = {"server": "global server", "team": "team server", "client": "client"}
    asked = "; ".join(
        f"{n} {names[tier]} actor{'s' * (n > 1)} of {share} each"
        for (tier, share), n in kinds.items()
        if share.cpus or share.gpus
    )
    cpus = sum(seat.share.cpus for seat in wanted)
    gpus = sum(seat.share.gpus for seat in wanted)
    has = ", ".join(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in nodes)
    remedies = []
    actors = sum(1 for seat in wanted if seat.tier == "client")
    for key, need, there in (
        ("num_cpus", cpus, sum(node.cpus for node in nodes)),
        ("num_gpus", gpus, sum(node.gpus for node in nodes)),
    ):
        if need > there and there > 0 and actors:
            remedies.append(f"lower clients.{key} to {int(there / actors * 1e4) / 1e4:g}")
        elif need > there:
            remedies.append(f"set clients.{key}=0, or join a cluster that has {need:g} (ray.address=…)")
    if actors > 1:
        remedies.append(f"set clients_per_actor=auto or more than {clients // actors}")
    else:
        remedies.append("ask for less per actor: each must fit one node, and a fraction of a GPU one GPU")
    return (
        f"{asked} = {cpus:g} CPU and {gpus:g} GPU; the cluster has {len(nodes)} node{'s' * (len(nodes) != 1)} "
        f"with {has}. {' or '.join(remedies).capitalize()}."
    )
