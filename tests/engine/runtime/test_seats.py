"""Seating actors on nodes."""

import pytest

from strata.engine.errors import ResourceError
from strata.engine.runtime.seats import Node, Share, group_clients, plan_seats

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
    with pytest.raises(ResourceError, match=r"Set clients.num_gpus=0, or join a cluster"):
        plan([Node("a", 8, 0)], 6, Share(0.5, 0.25))


def test_clients_with_different_shares_do_not_share_an_actor():
    shares = {0: Share(1, 0), 1: Share(2, 0), 2: Share(1, 0), 3: Share(2, 0)}
    assert group_clients(range(4), shares, 10) == [(0, 2), (1, 3)]
    seats = client_seats(plan([Node("a", 3, 0)], 4, shares))
    assert [(seat.clients, seat.share.cpus) for seat in seats] == [((0, 2), 1), ((1, 3), 2)]


def test_team_servers_are_seated_too():
    seats = plan([Node("a", 2, 0)], 4, Share(1, 0), teams=(0, 1))
    assert [seat.team for seat in seats if seat.tier == "team"] == [0, 1]


def test_ten_thousand_clients_are_seated_at_once():
    assert len(client_seats(plan([Node("a", 16, 0)], 10_000, Share(1, 0)))) == 16
