"""Cohorts: who is invited, who is waited for, and who counts."""

import pytest

from strata.engine.build import build_world
from strata.engine.rounds.cohort import assignments_for, choose, client_calls, cohort_size, gather, invite_clients
from strata.engine.rounds.pools import ClientReply
from strata.engine.rounds.records import CallRecord
from strata.engine.rounds.world import TierPlan
from tests.helpers.calls import call_rows
from tests.helpers.moments import AT, TEAM
from tests.helpers.small import small

SYNC = TierPlan("sync", 0.0, 1.0)


def reply(client, seconds, status="ok"):
    record = CallRecord(client, None, 1, "toy", status, 10, 20, 30, 4, 5, 0.0, 0.0, seconds, 0.0)
    return ClientReply(client, f"upload {client}", record)


def test_a_synchronous_server_waits_for_its_slowest_client():
    gathered = gather([reply(0, 2.0), reply(1, 5.0), reply(2, 3.0)], SYNC)
    assert gathered.seconds == 5.0
    assert gathered.straggling == 3.0  # 5 − 2
    assert [up.message for up in gathered.ups] == ["upload 0", "upload 1", "upload 2"]


def test_a_deadline_drops_and_counts_late_uploads_and_ends_the_wait():
    gathered = gather([reply(0, 2.0), reply(1, 5.0), reply(2, 3.0)], TierPlan("deadline", 3.0, 1.0))
    assert gathered.seconds == 3.0
    assert [record.status for record in call_rows(gathered.calls)] == ["ok", "late", "ok"]
    assert [up.sender for up in gathered.ups] == [0, 2]
    assert gathered.straggling == 1.0


def test_a_lost_client_is_waited_for_until_it_is_lost_and_does_not_count():
    gathered = gather([reply(0, 2.0), reply(1, 4.0, "lost")], SYNC)
    assert gathered.seconds == 4.0
    assert [up.sender for up in gathered.ups] == [0]
    assert gathered.straggling == 0.0


def test_nobody_there_takes_no_time():
    gathered = gather([], SYNC)
    assert (gathered.seconds, gathered.ups, gathered.straggling) == (0.0, [], 0.0)


def test_cohorts_have_their_size_and_are_drawn_by_the_seed():
    assert cohort_size(TierPlan("sync", 0, 0.1), 100) == 10
    assert cohort_size(TierPlan("sync", 0, 0.01), 8) == 1
    drawn = choose(range(100), 10, 1, "cohort", 1)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 10
    assert drawn == choose(range(100), 10, 1, "cohort", 1) != choose(range(100), 10, 1, "cohort", 2)
    counts = [sum(client in choose(range(20), 5, 1, "cohort", t) for t in range(400)) for client in range(20)]
    assert 60 < min(counts) <= max(counts) < 140  # each is drawn 400 · 5/20 = 100 times in the mean


def test_unavailable_clients_are_not_invited():
    world = build_world(small("fedavg", "delays.availability=0.5"))
    cohorts = [invite_clients(world, range(8), t, 1, -1) for t in range(300)]
    assert 3.6 < sum(map(len, cohorts)) / 300 < 4.4


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "hsgd", "permfl"])
def test_a_model_that_goes_to_a_whole_cohort_is_one_message(method):
    world = build_world(small(method))
    owner = world.algorithm.init_global(1)
    if world.data.teams:
        owner = world.algorithm.start_team(world.algorithm.to_team(owner, TEAM, {}, AT), None)
    told = assignments_for(world, range(4), None)
    calls = client_calls(world, range(4), owner, 1, 1, told)
    assert len({id(call.down) for call in calls}) == 1
