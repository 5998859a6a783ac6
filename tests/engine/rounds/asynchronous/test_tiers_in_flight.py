"""Whole federations of tiered methods in which teams do not wait for their clients, or the global server for teams."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch

from strata.algorithms.hsgd import Hsgd
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.rounds.server import TeamPrices
from tests.helpers.regrouping import Regrouping
from tests.helpers.small import BUFFERED, HALF, NOISY, played, resume_in_flight, small


@dataclass(frozen=True)
class Count:
    """A client's private state: which call made it."""

    round: int
    team_round: int


TIERED = ["permfl", "hsgd", "tests.helpers.regrouping"]


@pytest.mark.parametrize("update", ["model", "change"])
@pytest.mark.parametrize("method", TIERED)
def test_a_buffer_of_all_of_a_teams_cohort_is_a_synchronous_team_round(method, update):
    words = (*NOISY, *HALF, "clients.count=10", "rounds=3", f"clients.update={update}")
    _, waited, theirs = played(method, *words)
    _, taken, ours = played(method, *words, "clients.mode=async", "clients.buffer=9", "clients.staleness=polynomial")
    assert (ours["models"], ours["clock"]) == (theirs["models"], theirs["clock"])
    assert [record.calls for record in taken] == [record.calls for record in waited]
    assert sum(record.lost for record in taken) > 0


@pytest.mark.parametrize("method", TIERED)
def test_a_run_with_clients_in_flight_in_teams_is_resumed_to_the_bit(tmp_path, method):
    words = (*NOISY, *BUFFERED, "clients.count=10", "rounds=7", "delays.availability=1")
    config = small(method, *words, "clients.staleness=hinge", "clients.staleness_grace=1", "delays.team_latency_s=0.01")
    resume_in_flight(
        config, tmp_path, 3, lambda saved: sum(len(team.aloft.calls) for team in saved.teams.values()) >= 2
    )


FEW_TEAMS = ("clients.count=12", "teams.count=4", "teams.participation=0.5", "teams.mode=async")
ONE_LINK = ("delays.server_links=shared", "delays.server_down_bytes_per_s=1e5", "delays.server_up_bytes_per_s=2e5")


@pytest.mark.parametrize(
    ("method", "update", "own"),
    [*((method, update, ()) for method in TIERED for update in ("model", "change")), ("permfl", "model", ONE_LINK)],
)
def test_a_buffer_of_all_teams_that_are_called_is_a_synchronous_round(method, update, own):
    words = (*NOISY, *FEW_TEAMS, *own, "rounds=3", "delays.team_latency_s=0.3", "delays.dropout=0.5")
    _, waited, theirs = played(method, *words, "teams.mode=sync")
    _, taken, ours = played(method, *words, "teams.buffer=2", f"teams.update={update}", "teams.staleness=polynomial")
    assert (ours["models"], ours["clock"]) == (theirs["models"], theirs["clock"])
    assert [record.calls for record in taken] == [record.calls for record in waited]
    assert [record.scores for record in taken] == [record.scores for record in waited]


@pytest.mark.parametrize("own", [(), ONE_LINK], ids=["own links", "one link"])
@pytest.mark.parametrize(("method", "update"), [("permfl", "model"), ("hsgd", "change")])
def test_a_run_with_teams_in_flight_is_resumed_to_the_bit(tmp_path, method, update, own):
    words = (*NOISY, *FEW_TEAMS, *own, "rounds=8", "teams.concurrency=3", "teams.staleness=polynomial")
    config = small(method, *words, f"teams.update={update}")
    resume_in_flight(config, tmp_path, 3, lambda saved: len(saved.aloft.calls) == 2)


@dataclass(frozen=True)
class Norm:
    """An upload without a model."""

    length: torch.Tensor


def test_changes_of_teams_whose_uploads_hold_no_model_are_refused_before_anything_is_called(monkeypatch):
    monkeypatch.setattr(Hsgd, "to_global", lambda self, team: Norm(team.params["head.weight"].norm()))
    with pytest.raises(ConfigError, match=r"update=change: an upload of .* Set update=model"):
        Federation(small("hsgd", *FEW_TEAMS, "teams.update=change"))
    Federation(small("hsgd", *FEW_TEAMS)).close()


def test_a_team_and_its_clients_are_what_they_were_until_the_teams_upload_is_taken_in():
    words = ("delays=pareto", *FEW_TEAMS, "teams.concurrency=4", "rounds=3", "agents.policy=none")
    with Federation(small("permfl", *words)) as federation:
        for _ in range(3):
            record = federation.run_round()
            if record.round == 1:
                came = set(record.calls.team.tolist())
                held = federation.rounds.snapshot()
                assert {team for team, state in held.teams.items() if state is not None} == came
                called = {int(c) for c in record.calls.client}
                assert {c for c, state in held.clients.items() if state.theta is not None} == called
                assert len(came) == 1
            assert record.metrics["async/in_flight"] == 3


WHOSE = ("", "teams/")
BOTH = ("teams.mode=async", "clients.mode=async")
SHARED = ("delays.team_links=shared", "delays.team_down_bytes_per_s=2e5", "delays.team_up_bytes_per_s=4e5")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("clients.mode=deadline", "clients.deadline_s=0.1"),
        ("clients.mode=async", "clients.buffer=2"),
        ("clients.mode=async", "clients.buffer=2", *SHARED),
    ],
    ids=["sync", "deadline", "async", "shared"],
)
def test_rounds_of_a_team_have_their_price(monkeypatch, words):
    price, priced, paid = TeamPrices.__call__, {}, {}

    def noted(self, call, underway):
        reply = price(self, call, underway)
        priced[call.team, call.round] = reply.seconds
        return reply

    monkeypatch.setattr(TeamPrices, "__call__", noted)
    with Federation(small("permfl", *NOISY, *FEW_TEAMS, "rounds=9", *words)) as federation:
        receive = type(federation.rounds._tier).received

        def received(self, call, reply, state, staleness=0):
            paid[call.team, call.round] = reply.seconds
            return receive(self, call, reply, state, staleness)

        monkeypatch.setattr(type(federation.rounds._tier), "received", received)
        list(federation)
    assert len(paid) > 7
    assert len({round for _, round in paid}) > 4
    assert paid == {key: priced[key] for key in paid}


@pytest.mark.parametrize(
    ("method", "update", "words"),
    [
        ("permfl", "model", SHARED),
        ("hsgd", "change", ()),
        ("tests.helpers.regrouping", "model", ()),
        pytest.param("permfl", "change", (), marks=pytest.mark.exhaustive),
        pytest.param("hsgd", "model", SHARED, marks=pytest.mark.exhaustive),
        pytest.param("tests.helpers.regrouping", "change", SHARED, marks=pytest.mark.exhaustive),
    ],
)
def test_where_neither_tier_waits_buffers_of_whole_cohorts_are_a_synchronous_round(method, update, words):
    words = (*NOISY, *HALF, *FEW_TEAMS, *words, "rounds=3", "delays.team_latency_s=0.3", "delays.dropout=0.4")
    _, waited, theirs = played(method, *words, "teams.mode=sync")
    own = ("teams.buffer=2", f"teams.update={update}", "teams.staleness=polynomial")
    own = (*own, "clients.buffer=9", f"clients.update={update}", "clients.staleness=polynomial")
    _, taken, ours = played(method, *words, *BOTH, *own)
    assert (ours["models"], ours["clock"]) == (theirs["models"], theirs["clock"])
    assert [record.calls for record in taken] == [record.calls for record in waited]
    assert [record.scores for record in taken] == [record.scores for record in waited]
    assert sum(record.lost for record in taken) > 0


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("permfl", SHARED),
        ("hsgd", ()),
        ("tests.helpers.regrouping:Remembering", ()),
        pytest.param("tests.helpers.regrouping:Remembering", SHARED, marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_with_teams_and_their_clients_in_flight_is_resumed_to_the_bit(tmp_path, method, words):
    words = (*NOISY, *FEW_TEAMS, *BOTH, *words, "clients.count=16", "delays.team_latency_s=0.01", "rounds=10")
    own = ("teams.concurrency=3", "teams.buffer=2", "teams.staleness=polynomial", "clients.concurrency=3")

    def in_flight(saved):
        clients = sum(len(team.aloft.calls) for team in saved.teams.values())
        return len(saved.aloft.calls) == 1 and clients > 2

    resume_in_flight(small(method, *words, *own, "clients.staleness=hinge"), tmp_path, 4, in_flight)


def test_calls_in_a_team_go_on_between_its_rounds():
    words = ("delays=pareto", "clients.mode=async", "clients.concurrency=4", "delays.availability=1", "rounds=2")
    with Federation(small("hsgd", *words, "delays.team_latency_s=50", "teams.count=1")) as federation:
        first, second = federation.run_round(), federation.run_round()
    assert len(first.calls) == len(second.calls) == 3  # team rounds, of one upload each
    # All calls are over within seconds: when the team begins anew, those of the round before lie there.
    assert first.round_s > second.round_s == 50
    # Their calls lie behind one step at least, and the team's new state: they are stale by two, or more.
    stale = {int(name.rpartition("/")[2]): n for name, n in second.metrics.items() if "/staleness/" in name}
    assert sum(stale.values()) == 3
    assert min(stale) >= 2


def test_a_client_that_changes_its_team_is_dropped_and_counted_and_can_be_called_there():
    words = (*BUFFERED, "clients.count=10", "clients.buffer=1", "rounds=6", "delays=pareto", "delays.availability=1")
    with Federation(small("tests.helpers.regrouping", *words, "clients.concurrency=4")) as federation:
        for _ in range(6):
            held = federation.rounds.snapshot()
            away = {team: {one.receiver for one in own.aloft.calls} for team, own in held.teams.items()}
            gone = sum(len(away[team] - set(members)) for team, members in held.topology.items())
            record = federation.run_round()
            assert record.metrics["async/stale"] == (gone if held.round else 0)
            if gone:
                return
    raise AssertionError("nobody changed its team while on a call")


def test_where_neither_tier_waits_a_client_is_what_its_teams_rounds_made_of_it_once_these_are_taken_in(monkeypatch):
    began, came = [], {}
    client_step = Hsgd.client_step

    def noted(self, info, state, down, context):
        if context.seed:  # else it is only counted what it costs
            began.append((info.id, context.round, context.team_round, state))
        result = yield from client_step(self, info, state, down, context)
        return dataclasses.replace(result, state=Count(context.round, context.team_round))

    monkeypatch.setattr(Hsgd, "client_step", noted)
    monkeypatch.setattr(Hsgd, "stateless", False)
    words = ("delays=pareto", "delays.availability=1", *FEW_TEAMS, *BOTH, "teams.concurrency=3", "rounds=14")
    with Federation(small("hsgd", *words, "clients.buffer=2", "clients.concurrency=2")) as federation:
        for _ in range(14):
            federation.run_round()
            held = federation.rounds.snapshot().clients
            came = {client: state for client, state in held.items() if state is not None}
    by_client = {}
    for client, round, team_round, state in began:
        # With a buffer of all that are on a call nothing is in flight between a team's rounds: a client goes on from
        # its last call, be that taken in or not.
        assert state == by_client.get(client)
        by_client[client] = Count(round, team_round)
    assert 0 < len(came) <= len(by_client)
    assert any(came[client] != by_client[client] for client in came)  # of a team that is on its way


def test_where_neither_tier_waits_what_is_told_of_teams_is_told_apart():
    words = ("delays=pareto", "delays.availability=1", *FEW_TEAMS, *BOTH, "teams.concurrency=3", "rounds=6")
    _, records, _ = played("hsgd", *words, "clients.buffer=2", "clients.concurrency=3", "teams.max_staleness=1")
    for record in records:
        calls, told = record.calls, record.metrics
        came = len(set(calls.team.tolist()))
        counted = {of: sum(n for name, n in told.items() if name.startswith(f"async/{of}staleness")) for of in WHOSE}
        assert counted[""] == len(calls) == 3 * 2 * came  # two uploads in each of three team rounds
        assert counted["teams/"] == 1
        assert counted["teams/"] + told["async/teams/stale"] == came
        assert told["async/teams/in_flight"] == 3 - came
        assert told["async/in_flight"] == came  # of three on a call in a team two are waited for
        assert record.straggling_s == told["async/teams/idle_s"]
    assert sum(record.metrics["async/teams/stale"] for record in records) > 0


def test_teams_that_are_not_on_their_way_may_change_members(monkeypatch):
    given, regroup = [], Regrouping.regroup

    def noted(self, g, topology, context):
        given.append((context.round, {team: list(members) for team, members in topology.items()}))
        return regroup(self, g, topology, context)

    monkeypatch.setattr(Regrouping, "regroup", noted)
    words = (*NOISY, "clients.count=12", "teams.count=4", "teams.mode=async", "teams.buffer=2", "rounds=6")
    with Federation(small("tests.helpers.regrouping", *words)) as federation:
        for round in range(1, 7):
            before = federation.rounds.snapshot().topology
            record = federation.run_round()
            after = federation.rounds.snapshot()
            away = {one.receiver for one in after.aloft.calls}
            assert len(away) == 2
            assert {team: before[team] for team in away} == {team: after.topology[team] for team in away}
            assert given[-1] == (round, {team: before[team] for team in before if team not in away})
            assert sorted(client for members in after.topology.values() for client in members) == list(range(12))
            assert set(record.calls.team.tolist()).isdisjoint(away)
    assert federation.config.rounds == len(given)
    given.clear()
    with Federation(small("tests.helpers.regrouping", *words, "teams.buffer=1")) as federation:
        for _ in range(3):
            federation.run_round()
    assert given == []  # never two that could change members


def test_how_teams_are_waited_for_is_nothing_to_a_method_without_teams():
    prints = []
    for mode in ("sync", "async"):
        with Federation(small("lg_fedavg", f"teams.mode={mode}")) as federation:
            list(federation)
            prints.append(federation.fingerprint())
    assert prints[0] == prints[1]
