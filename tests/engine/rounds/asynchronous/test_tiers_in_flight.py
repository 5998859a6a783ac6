"""Whole federations of tiered methods in which teams do not wait for their clients, or the global server for teams."""

from dataclasses import dataclass

import pytest
import torch

from strata.algorithms.hsgd import Hsgd
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.rounds.server import TeamPrices
from tests.helpers.small import BUFFERED, HALF, NOISY, played, resume_in_flight, small

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


@pytest.mark.parametrize("update", ["model", "change"])
@pytest.mark.parametrize("method", TIERED[:2])
def test_a_buffer_of_all_teams_that_are_called_is_a_synchronous_round(method, update):
    words = (*NOISY, *FEW_TEAMS, "rounds=3", "delays.team_latency_s=0.3", "delays.dropout=0.5")
    _, waited, theirs = played(method, *words, "teams.mode=sync")
    _, taken, ours = played(method, *words, "teams.buffer=2", f"teams.update={update}", "teams.staleness=polynomial")
    assert (ours["models"], ours["clock"]) == (theirs["models"], theirs["clock"])
    assert [record.calls for record in taken] == [record.calls for record in waited]
    assert [record.scores for record in taken] == [record.scores for record in waited]


@pytest.mark.parametrize("update", ["model", "change"])
@pytest.mark.parametrize("method", TIERED[:2])
def test_a_run_with_teams_in_flight_is_resumed_to_the_bit(tmp_path, method, update):
    words = (*NOISY, *FEW_TEAMS, "rounds=8", "teams.concurrency=3", "teams.staleness=polynomial")
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


@pytest.mark.parametrize("words", [(), ("clients.mode=deadline", "clients.deadline_s=0.1")], ids=["sync", "deadline"])
def test_rounds_of_a_team_have_their_price(monkeypatch, words):
    seen, price = [], TeamPrices.__call__
    with Federation(small("permfl", *NOISY, *FEW_TEAMS, "rounds=6", *words)) as federation:
        monkeypatch.setattr(TeamPrices, "__call__", lambda self, call: seen.append(price(self, call)) or seen[-1])
        tier = federation.rounds._tier
        tier.price_s, pool, paid = TeamPrices(federation.world), tier._teams, []
        results = pool.results
        pool.results = lambda tickets: [paid.append(reply.seconds) or reply for reply in results(tickets)]
        list(federation)
    assert len(paid) > 5
    assert set(paid) <= set(seen)


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


def test_how_teams_are_waited_for_is_nothing_to_a_method_without_teams():
    prints = []
    for mode in ("sync", "async"):
        with Federation(small("lg_fedavg", f"teams.mode={mode}")) as federation:
            list(federation)
            prints.append(federation.fingerprint())
    assert prints[0] == prints[1]
