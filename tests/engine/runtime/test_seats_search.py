"""Clients per actor are found as an exhaustive search over all sizes finds them, which is kept here."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from strata.engine.errors import ResourceError
from strata.engine.runtime import seats as placement
from strata.engine.runtime.seats import TOLERANCE, Node, Seat, Share, plan_seats

NOTHING = Share(0, 0)


def old_groups(clients, shares, per_actor):
    groups = []
    for share in dict.fromkeys(shares[client] for client in clients):
        alike = [client for client in clients if shares[client] == share]
        count = -(-len(alike) // per_actor)
        bounds = [round(i * len(alike) / count) for i in range(count + 1)]
        groups += [tuple(alike[a:b]) for a, b in pairwise(bounds)]
    return groups


def old_plan(nodes, server, team, teams, clients, shares, per_actor, strategy):
    servers = [Seat("server", server, "")] + [Seat("team", team, "", team=t) for t in teams]
    sizes = range(1, len(clients) + 1) if per_actor == "auto" else [per_actor]
    for size in sizes:
        if size != sizes[-1] and not old_could_fit(nodes, servers, clients, shares, size):
            continue
        groups = old_groups(clients, shares, size)
        wanted = servers + [Seat("client", shares[group[0]], "", clients=group) for group in groups]
        seats = old_assign(wanted, nodes, strategy)
        if seats is not None:
            return seats
    raise ResourceError


def old_could_fit(nodes, servers, clients, shares, size):
    alike = Counter(shares[client] for client in clients)
    cpus = sum(seat.share.cpus for seat in servers) + sum(-(-n // size) * share.cpus for share, n in alike.items())
    gpus = sum(seat.share.gpus for seat in servers) + sum(-(-n // size) * share.gpus for share, n in alike.items())
    there = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return cpus <= there[0] + TOLERANCE and gpus <= there[1] + TOLERANCE


class OldFree:
    def __init__(self, node):
        self.cpus = node.cpus
        self.gpus = [1.0] * int(node.gpus)

    def take(self, share):
        if self.cpus + TOLERANCE < share.cpus:
            return False
        gpus = list(self.gpus)
        whole, part = divmod(share.gpus, 1.0) if share.gpus >= 1 else (0.0, share.gpus)
        for need in [1.0] * int(whole) + [part] * (part > 0):
            fitting = [i for i, gpu in enumerate(gpus) if gpu + TOLERANCE >= need]
            if not fitting:
                return False
            gpus[min(fitting, key=gpus.__getitem__)] -= need
        self.cpus, self.gpus = self.cpus - share.cpus, gpus
        return True


def old_assign(wanted, nodes, strategy):
    left = {node.id: OldFree(node) for node in nodes}
    seats = []
    for seat in wanted:
        order = sorted(left, key=lambda name: -left[name].cpus) if strategy == "spread" else list(left)
        node = next((name for name in order if left[name].take(seat.share)), None)
        if node is None:
            return None
        seats.append(replace(seat, node=node))
    return seats


def drawn(draws):
    """A case of a few nodes and a few dozen clients, of up to four kinds, where fractions matter."""

    def one(*options):
        return options[draws.integers(len(options))]

    def share():
        return Share(one(0, 0.1, 0.25, 0.5, 1 / 3, 1, 2), one(0, 0, 0, 0.1, 0.25, 0.3334, 0.6, 1, 2))

    nodes = [Node(f"n{i}", one(0.5, 1, 2, 3.5, 8), one(0, 1, 2, 4)) for i in range(draws.integers(1, 5))]
    kinds = [share() for _ in range(draws.integers(1, 5))]
    clients = [int(c) for c in draws.permutation(draws.integers(1, 40))]
    shares = {c: one(*kinds) for c in clients}
    teams = range(draws.integers(0, 4))
    return nodes, one(NOTHING, share()), one(NOTHING, share()), teams, clients, shares, one("auto", "auto", 1, 3, 7)


def outcome(plan, *case):
    try:
        return plan(*case)
    except ResourceError:
        return None


@pytest.mark.parametrize("strategy", ["pack", "spread"])
def test_seats_are_those_of_the_exhaustive_search(strategy):
    draws, fitted, packed = np.random.default_rng(3), 0, 0
    for _ in range(1500):
        case = (*drawn(draws), strategy)
        expected = outcome(old_plan, *case)
        assert outcome(plan_seats, *case) == expected, case
        fitted += expected is not None
        packed += expected is not None and any(len(seat.clients) > 1 for seat in expected)
    assert 300 < packed < fitted < 1400  # all kinds of cases are among them


@pytest.mark.parametrize("strategy", ["pack", "spread"])
@pytest.mark.parametrize(
    ("nodes", "share", "actors"),
    [
        ([Node("a", 2, 0)], Share(1, 0), 2),
        ([Node("a", 64, 4), Node("b", 64, 4)], Share(0.1, 0.6), 8),  # the sums would allow thirteen
        ([Node(f"n{i}", 1.5, 0) for i in range(40)], Share(1, 0), 40),  # and here sixty
    ],
)
def test_a_hundred_thousand_clients_are_seated_after_few_trials(monkeypatch, strategy, nodes, share, actors):
    trials, taken = [], []
    assign, take = placement._assign, placement._Free.take
    monkeypatch.setattr(placement, "_assign", lambda *args: trials.append(1) or assign(*args))
    monkeypatch.setattr(placement._Free, "take", lambda free, share: taken.append(1) or take(free, share))
    clients = range(100_000)
    seats = plan_seats(nodes, NOTHING, NOTHING, (), clients, dict.fromkeys(clients, share), "auto", strategy)
    assert sum(seat.tier == "client" for seat in seats) == actors
    assert len(trials) <= 21
    assert len(taken) <= len(trials) * (len(nodes) * 3 + actors)


@pytest.mark.parametrize("strategy", ["pack", "spread"])
def test_an_actor_that_fits_is_seated_by_itself_without_asking_full_nodes_again(monkeypatch, strategy):
    taken, take = [], placement._Free.take
    monkeypatch.setattr(placement._Free, "take", lambda free, share: taken.append(1) or take(free, share))
    nodes = [Node(f"n{i}", 10, 0) for i in range(100)]
    plan_seats(nodes, NOTHING, NOTHING, (), range(1000), dict.fromkeys(range(1000), Share(1, 0)), "auto", strategy)
    assert len(taken) <= 1000 + 2 + 100
