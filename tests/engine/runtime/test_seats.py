"""Seating actors on nodes; clients per actor as an exhaustive search over all sizes, kept here, finds them."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from strata.engine.errors import ResourceError
from strata.engine.runtime import seats as placement
from strata.engine.runtime.seats import TOLERANCE, Node, Seat, Share, plan_seats

NOTHING = Share(0, 0)


def plan(nodes, clients, share, per_actor="auto", strategy="pack", teams=()):
    ids = list(range(clients))
    shares = share if isinstance(share, dict) else dict.fromkeys(ids, share)
    return plan_seats(nodes, NOTHING, NOTHING, teams, ids, shares, per_actor, strategy)


def client_seats(seats):
    return [seat for seat in seats if seat.tier == "client"]


def test_every_client_has_an_actor_of_its_own_while_they_fit():
    seats = client_seats(plan([Node("a", 2, 0)], 4, Share(0.5, 0)))
    assert [seat.clients for seat in seats] == [(0,), (1,), (2,), (3,)]


def test_beyond_that_they_are_packed_evenly():
    seats = client_seats(plan([Node("a", 2, 0)], 41, Share(1, 0)))
    assert [len(seat.clients) for seat in seats] == [20, 21]
    assert sorted(c for seat in seats for c in seat.clients) == list(range(41))


def test_ten_tenths_fill_one():
    assert len(client_seats(plan([Node("a", 1, 0)], 10, Share(0.1, 0)))) == 10


def test_gpus_limit_as_cpus_do():
    assert len(client_seats(plan([Node("a", 64, 1)], 20, Share(1, 0.25)))) == 4


def test_pack_fills_a_node_first_and_spread_alternates():
    nodes = [Node("a", 2, 0), Node("b", 2, 0), Node("c", 2, 0)]
    assert [s.node for s in client_seats(plan(nodes, 3, Share(1, 0)))] == ["a", "a", "b"]
    assert [s.node for s in client_seats(plan(nodes, 3, Share(1, 0), strategy="spread"))] == ["a", "b", "c"]


def test_an_actor_must_fit_one_node_not_the_sum():
    with pytest.raises(ResourceError, match="the cluster has 2 nodes with 1 CPU and 0 GPU, 1 CPU and 0 GPU"):
        plan([Node("a", 1, 0), Node("b", 1, 0)], 2, Share(2, 0))


def test_what_does_not_fit_is_said_with_numbers_and_a_remedy():
    with pytest.raises(ResourceError) as caught:
        plan([Node("a", 8, 1)], 6, Share(0.5, 0.25), per_actor=1)
    assert str(caught.value) == (
        "6 client actors of 0.5 CPU and 0.25 GPU each = 3 CPU and 1.5 GPU; the cluster has 1 node with 8 CPU and "
        "1 GPU. Lower clients.num_gpus to 0.1666 or set clients_per_actor=auto or more than 1."
    )


def test_a_fraction_of_a_gpu_must_lie_on_one_gpu():
    with pytest.raises(ResourceError, match=r"3 client actors of 0.1 CPU and 0.6 GPU each"):
        plan([Node("a", 16, 2)], 3, Share(0.1, 0.6), per_actor=1)
    assert len(client_seats(plan([Node("a", 16, 2)], 6, Share(0.1, 0.6)))) == 2
    assert len(client_seats(plan([Node("a", 16, 4)], 2, Share(0.1, 2), per_actor=1))) == 2


def test_one_actor_too_large_for_every_node():
    with pytest.raises(ResourceError, match="each must fit one node"):
        plan([Node("a", 2, 0), Node("b", 2, 0)], 1, Share(3, 0))


def test_its_remedy_works():
    assert len(client_seats(plan([Node("a", 8, 1)], 6, Share(0.5, 0.1666), per_actor=1))) == 6


def test_gpus_that_are_not_there_at_all():
    with pytest.raises(ResourceError) as caught:
        plan([Node("a", 8, 0)], 6, Share(0.5, 0.25))
    assert str(caught.value) == (
        "1 client actor of 0.5 CPU and 0.25 GPU = 0.5 CPU and 0.25 GPU; the cluster has 1 node with 8 CPU and 0 GPU. "
        "Set clients.num_gpus=0, or join a cluster that has 0.25 GPU (ray.address=…) or ask for less per actor: each "
        "must fit one node, and a fraction of a GPU one GPU."
    )


def test_what_others_have_is_taken_off_the_nodes_and_gpus_where_they_live():
    def seated(nodes, share, clients, taken):
        ids = list(range(clients))
        return client_seats(
            plan_seats(nodes, NOTHING, NOTHING, [], ids, dict.fromkeys(ids, share), "auto", taken=taken)
        )

    quarter = seated([Node("a", 8, 1)], Share(1, 0.25), 2, [])
    assert len(seated([Node("a", 8, 1)], Share(1, 0.25), 4, quarter)) == 2
    halves = [Seat("client", Share(1, 0.6), "a"), Seat("client", Share(1, 0.6), "a")]
    with pytest.raises(ResourceError):  # 0.8 in sum, on no GPU whole
        seated([Node("a", 8, 2)], Share(1, 0.8), 1, halves)
    assert len(seated([Node("a", 4, 0), Node("b", 2, 0)], Share(1, 0), 9, [Seat("client", Share(3, 0), "a")])) == 3
    assert len(seated([Node("b", 2, 0)], Share(1, 0), 9, [Seat("client", Share(3, 0), "gone")])) == 2


def test_clients_with_different_shares_do_not_share_an_actor():
    shares = {0: Share(1, 0), 1: Share(2, 0), 2: Share(1, 0), 3: Share(2, 0)}
    seats = client_seats(plan([Node("a", 3, 0)], 4, shares))
    assert [(seat.clients, seat.share.cpus) for seat in seats] == [((0, 2), 1), ((1, 3), 2)]


def test_team_servers_are_seated_too():
    seats = plan([Node("a", 2, 0)], 4, Share(1, 0), teams=(0, 1))
    assert [seat.teams for seat in seats if seat.tier == "team"] == [(0,), (1,)]


def beside(sizes, cpus, **words):
    """Client actors' clients and teams, and the teams whose servers are apart, for teams of these sizes."""
    team_of = np.repeat(np.arange(len(sizes)), sizes)
    clients, teams = list(range(len(team_of))), range(len(sizes))
    seats = plan_seats([Node("a", cpus, 0)], NOTHING, NOTHING, teams, clients, [Share(1, 0)] * len(clients), **words)
    with_homes = plan_seats(
        [Node("a", cpus, 0)], NOTHING, NOTHING, teams, clients, [Share(1, 0)] * len(clients), **words, team_of=team_of
    )
    assert len(client_seats(seats)) == len(client_seats(with_homes))
    hosts = [(len(seat.clients), seat.teams) for seat in client_seats(with_homes)]
    return hosts, [team for seat in with_homes if seat.tier == "team" for team in seat.teams]


def test_a_team_server_lives_with_its_clients_where_one_actor_holds_all_of_them():
    assert beside([10, 10, 10, 10], 2, per_actor="auto") == ([(20, (0, 1)), (20, (2, 3))], [])
    assert beside([10, 10, 10, 10], 4, per_actor="auto") == ([(10, (t,)) for t in range(4)], [])
    assert beside([10, 10], 4, per_actor="auto") == ([(5, ())] * 4, [0, 1])
    assert beside([2, 1], 3, per_actor=1) == ([(1, ()), (1, ()), (1, (1,))], [0])


def test_actors_hold_whole_teams_unless_one_became_much_larger_than_the_others():
    assert beside([9, 12, 10, 9], 2, per_actor="auto") == ([(21, (0, 1)), (19, (2, 3))], [])
    assert beside([10, 10, 10], 2, per_actor="auto") == ([(15, (0,)), (15, (2,))], [1])  # not 20 and 10


def test_ten_thousand_clients_are_seated_at_once():
    assert len(client_seats(plan([Node("a", 16, 0)], 10_000, Share(1, 0)))) == 16


def old_groups(clients, shares, per_actor):
    groups = []
    for share in dict.fromkeys(shares[client] for client in clients):
        alike = [client for client in clients if shares[client] == share]
        count = -(-len(alike) // per_actor)
        bounds = [round(i * len(alike) / count) for i in range(count + 1)]
        groups += [tuple(alike[a:b]) for a, b in pairwise(bounds)]
    return groups


def old_plan(nodes, server, team, teams, clients, shares, per_actor, strategy):
    servers = [Seat("server", server, "")] + [Seat("team", team, "", teams=(t,)) for t in teams]
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
