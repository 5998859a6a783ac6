"""Whole federations whose clients come and go: who is called when, who is lost when, and where the clock goes."""

import math

import pytest

from strata.engine.build import build_world
from strata.engine.errors import DataError
from strata.engine.federation import Federation
from strata.engine.identity import identity
from strata.engine.method.calls import LOST
from strata.engine.rounds import clients
from strata.engine.rounds.accounts import charge
from strata.engine.rounds.timed import TimedRounds
from strata.envs.opening import TrainingRounds
from tests.helpers.small import small

SLOW = ("delays=pareto", "delays.latency_s=1", "delays.availability=1", "agents.policy=none", "evaluation.every=100")
MODES = {
    "sync": (),
    "deadline": ("clients.mode=deadline", "clients.deadline_s=1.05"),
    "async": ("clients.mode=async", "clients.concurrency=4", "clients.buffer=2"),
}
TEAMS = {**MODES, "teams async": ("teams.mode=async", "teams.concurrency=1")}
INTERVALS = [[(0, 1.03), (2.5, 7.0)], [(0.5, 2.2), (4.25, 6)], [(1.5, 3.7), (6.5, 9.75)]]
PERIOD = 10.0


def trace(folder, intervals=INTERVALS, name="on.csv"):
    path = folder / name
    lines = [f"{client},{on},{off}" for client, every in enumerate(intervals) for on, off in every]
    path.write_text("\n".join(["client,on_s,off_s", *lines]) + "\n", encoding="utf8")
    return f"delays.availability_trace={path}"


def repeated(folder):
    return trace(folder), f"delays.availability_period_s={PERIOD}"


def left_s(client, now):
    """Seconds for which a client stays, by looking; no two of a client's intervals touch. None where it is off."""
    local = now % PERIOD
    return next((off - local for on, off in INTERVALS[client % 3] if on <= local < off), None)


def charged(monkeypatch):
    """What is charged from now on: the calls, and what they came to."""
    made = []

    def noted(world, call, *rest):
        made.append((call, charge(world, call, *rest)))
        return made[-1][1]

    monkeypatch.setattr(clients, "charge", noted)
    return made


def check_each(made):
    """Everybody is there when called, and is lost if and only if it goes off before its call ends."""
    for call, came in made:
        left = left_s(call.client, call.virtual_s)
        assert left is not None
        if came.status == LOST:
            assert came.total_s == pytest.approx(left)
        else:
            assert came.total_s <= left
    lost = sum(came.status == LOST for _, came in made)
    assert 0 < lost < len(made)


@pytest.mark.parametrize("mode", MODES)
def test_who_is_called_is_there_and_who_goes_off_meanwhile_is_lost(tmp_path, monkeypatch, mode):
    made = charged(monkeypatch)
    with Federation(small("fedavg", *SLOW, *MODES[mode], *repeated(tmp_path), "rounds=20")) as federation:
        records, clock = [], [0.0]
        for record in federation:
            records.append(record)
            clock.append(record.virtual_s)
    check_each(made)
    starts = {call.round: call.virtual_s for call, _ in made}
    for round, start in starts.items():
        # At once where somebody is there; else as soon as somebody is, and nobody is on a call any more.
        before = clock[round - 1]
        anybody = any(left_s(client, before) is not None for client in range(3))
        assert start == before if anybody else start > before
    assert max(clock) > PERIOD
    if mode != "async":  # where some are still on their way
        assert sum(record.lost for record in records) == sum(came.status == LOST for _, came in made)


@pytest.mark.parametrize("mode", TEAMS)
def test_a_teams_clients_are_called_by_the_teams_own_time(tmp_path, monkeypatch, mode):
    made = charged(monkeypatch)
    words = (*SLOW, *TEAMS[mode], *repeated(tmp_path), "delays.team_latency_s=0.3", "rounds=8")
    with Federation(small("permfl", *words)) as federation:
        list(federation)
    check_each(made)
    times = {(call.team, call.round, call.team_round): call.virtual_s for call, _ in made}
    for (team, round, team_round), when in times.items():
        assert when > times.get((team, round, team_round - 1), 0.0)
    assert any(team_round > 1 for _, _, team_round in times)
    assert min(times.values()) == pytest.approx(0.3)  # the first team round, after the global server's message


@pytest.mark.parametrize("mode", MODES)
def test_rounds_that_are_timed_are_those_that_train(tmp_path, mode):
    config = small("fedavg", *SLOW, *MODES[mode], *repeated(tmp_path), "delays.dropout=0.2", "rounds=15")
    with Federation(config) as federation:
        timed, trained = TimedRounds(build_world(config)), TrainingRounds(federation)
        lost = 0
        for _ in range(15):
            assert timed.invite() == trained.invite()
            ours, theirs = timed.play(None), trained.play(None)
            assert (ours.round_s, ours.straggling_s) == (theirs.round_s, theirs.straggling_s)
            assert ours.calls.client.tolist() == theirs.calls.client.tolist()
            assert ours.calls.total_s.tolist() == theirs.calls.total_s.tolist()
            lost += sum(status == LOST for status in ours.calls.status)
    assert lost > 0


@pytest.mark.parametrize("method", ["fedavg", "permfl"])
@pytest.mark.parametrize("mode", MODES)
def test_where_nobody_is_there_the_clock_goes_on_to_the_first_who_comes(tmp_path, monkeypatch, method, mode):
    made = charged(monkeypatch)
    # On in [100, 100.5) but for client 1, who is back at 300 for good.
    there = trace(tmp_path, [[(100, 100.5)], [(100, 100.5), (300, math.inf)]])
    with Federation(small(method, *SLOW, *MODES[mode], there, "delays.team_latency_s=0", "rounds=6")) as federation:
        records = list(federation)
    assert made[0][0].virtual_s == records[0].virtual_s - records[0].round_s + 100 == 100
    assert {came.status for call, came in made if call.round == 1 and call.team_round == 1} == {LOST}
    assert 300 in {call.virtual_s for call, _ in made}
    assert all(call.client % 2 for call, _ in made if call.virtual_s > 101)
    assert records[-1].completed > 0


@pytest.mark.parametrize("mode", MODES)
def test_where_nobody_comes_again_rounds_are_empty_and_end(tmp_path, mode):
    with Federation(small("fedavg", *SLOW, *MODES[mode], trace(tmp_path, [[(0, 2.5)]]), "rounds=12")) as federation:
        records = list(federation)
    assert records[0].completed > 0
    assert [record.invited for record in records[-3:]] == [0, 0, 0]
    assert records[-1].virtual_s == records[-2].virtual_s <= 2.5 + 1e-9


@pytest.mark.parametrize("method", ["fedavg", "permfl"])
def test_a_run_with_calls_in_flight_is_resumed_to_the_bit(tmp_path, method):
    config = small(method, *SLOW, *MODES["async"], *repeated(tmp_path), "rounds=9", "clients.buffer=1")
    with Federation(config) as federation:
        for _ in range(4):
            federation.run_round()
        saved = federation.save(tmp_path / "saved")
        expected = list(federation), federation.fingerprint()
    assert expected[0][0].metrics["async/in_flight"] > 0
    with Federation(config) as federation:
        federation.restore(saved)
        found = list(federation), federation.fingerprint()
    assert [record.calls for record in found[0]] == [record.calls for record in expected[0]]
    assert found[1] == expected[1]


def test_uploads_that_lie_there_are_taken_before_anybody_is_waited_for(tmp_path):
    # All four calls are over within 30 s. When the server has had its 50 s, nobody is there until 1000.
    words = ("clients.mode=async", "clients.concurrency=4", "delays.server_latency_s=50", "delays.cap=3", "rounds=6")
    with Federation(small("fedavg", *SLOW, *words, trace(tmp_path, [[(0, 30), (1000, 1030)]]))) as federation:
        records = list(federation)
    assert [record.round_s for record in records[1:4]] == [50.0] * 3
    assert records[4].virtual_s > 1000


def test_probes_come_after_the_wait_and_before_the_calls(tmp_path, monkeypatch):
    made = charged(monkeypatch)
    there = trace(tmp_path, [[(50, 1000)]])
    with Federation(small("hapfl", *SLOW, there, "model=mlp", "model.hidden=[16]", "rounds=1")) as federation:
        cohort = federation.invite()
        probes = federation.probe(cohort)
        record = federation.run_round()
    slowest = float(probes.total_s.max())
    started = {call.virtual_s for call, _ in made if not call.probe}
    assert (len(cohort), started) == (8, {50 + slowest})
    assert record.virtual_s == pytest.approx(50 + slowest + float(record.calls.total_s[len(cohort) :].max()))


def test_the_trace_enters_a_runs_identity_by_its_contents(tmp_path):
    def told(*words):
        config = small("fedavg", *words)
        return identity(config, build_world(config))

    one = told(trace(tmp_path))
    assert one == told(trace(tmp_path, name="renamed.csv"))
    other = told(trace(tmp_path, INTERVALS[:2]))
    assert {key for key in one if one[key] != other[key]} == {"data"}
    assert told()["data"] not in (one["data"], other["data"])


def test_a_trace_that_is_wrong_stops_a_run_before_it_starts(tmp_path):
    with pytest.raises(DataError, match="line 2: on_s is 3 and off_s 2"):
        build_world(small("fedavg", trace(tmp_path, [[(3, 2)]])))
