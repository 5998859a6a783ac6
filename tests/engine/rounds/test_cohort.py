"""Cohorts: who is invited, and what each is sent."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from strata.engine.build import build_world
from strata.engine.method.calls import NO_TEAM
from strata.engine.rounds.cohort import assignments_for, choose, client_calls, invite_clients
from strata.engine.rounds.schedules import Moment
from strata.engine.rounds.world import TierPlan, called_size, cohort_size
from tests.helpers.moments import AT, TEAM
from tests.helpers.small import small


def test_cohorts_have_their_size_and_are_drawn_by_the_seed():
    assert cohort_size(TierPlan("sync", 0, 0.1), 100) == 10
    assert cohort_size(TierPlan("sync", 0, 0.01), 8) == 1


def test_as_many_are_called_as_are_missing_to_the_concurrency():
    plan = TierPlan("async", 0.0, 0.5, concurrency=3)
    assert [called_size(plan, 10, away) for away in (0, 1, 3)] == [3, 2, 0]
    assert called_size(plan, 2) == 2  # of all there are
    assert called_size(TierPlan("async", 0.0, 0.5), 10, 1) == 4  # by the share of them
    drawn = choose(range(100), 10, 1, "cohort", 1)
    assert drawn == choose(list(range(100)), 10, 1, "cohort", 1) == choose(np.arange(100), 10, 1, "cohort", 1)
    assert len(set(choose(range(10**12), 10, 1, "cohort", 1))) == 10  # who is not drawn takes no memory
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 10
    assert drawn == choose(range(100), 10, 1, "cohort", 1) != choose(range(100), 10, 1, "cohort", 2)
    counts = [sum(client in choose(range(20), 5, 1, "cohort", t) for t in range(400)) for client in range(20)]
    assert 60 < min(counts) <= max(counts) < 140  # each is drawn 400 · 5/20 = 100 times in the mean


def test_unavailable_clients_are_not_invited():
    world = build_world(small("fedavg", "delays.availability=0.5"))
    cohorts = [invite_clients(world, range(8), Moment(t, 1), -1) for t in range(300)]
    assert 3.6 < sum(map(len, cohorts)) / 300 < 4.4


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "hsgd", "permfl"])
def test_a_model_that_goes_to_a_whole_cohort_is_one_message(method):
    world = build_world(small(method))
    owner = world.algorithm.init_global(1)
    if world.data.teams:
        owner = world.algorithm.start_team(world.algorithm.to_team(owner, TEAM, {}, AT), None)
    told = assignments_for(world, range(4), None)
    calls = client_calls(world, owner, Moment(1, 1), int(world.team_of[0]), told)
    assert len({id(call.down) for call in calls}) == 1


@dataclass(frozen=True)
class Odd:
    value: Any = None


@dataclass(frozen=True)
class Even:
    value: Any = None


@pytest.mark.parametrize(
    ("odd", "even"),
    [
        (Odd(1), Even(1)),
        (Odd(Odd()), Odd(Even())),
        (Odd({}), Odd([])),
        (Odd({1: 2}), Odd({"1": 2})),
        (Odd([1]), Odd((1,))),
        (Odd(0.0), Odd(-0.0)),
        (Odd(1), Odd(True)),
    ],
    ids=str,
)
def test_messages_that_differ_stay_two_and_equal_ones_become_one(monkeypatch, odd, even):
    world = build_world(small("fedavg"))
    monkeypatch.setattr(type(world.algorithm), "to_client", lambda self, g, info, told: odd if info.id % 2 else even)
    calls = client_calls(world, None, Moment(1, 1), NO_TEAM, {client: {} for client in range(8)})
    assert [repr(call.down) for call in calls] == [repr(odd if call.client % 2 else even) for call in calls]
    monkeypatch.setattr(type(world.algorithm), "to_client", lambda self, g, info, told: Odd([info.id % 2, "x"]))
    calls = client_calls(world, None, Moment(1, 1), NO_TEAM, {client: {} for client in range(8)})
    assert len({id(call.down) for call in calls}) == 2  # made anew for each client, sent as two objects
