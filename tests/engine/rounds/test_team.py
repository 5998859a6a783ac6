"""Teams: each is sent its own message, members may change between rounds, the server draws from its own seed."""

import json

import numpy as np
import pytest
import torch

from strata.engine.build import build_world
from strata.engine.errors import TopologyError
from strata.engine.federation import Federation
from strata.engine.method.messages import ClientResult
from strata.engine.method.situation import Decisions
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import Failure, TeamCall
from strata.engine.rounds.team import LocalTeams, TeamServer
from strata.engine.training.batched import Batched
from tests.helpers.calls import call_rows
from tests.helpers.regrouping import Regrouping
from tests.helpers.small import small

FEW = ("method.team_rounds=2", "method.steps=2", "method.batch_size=16")


def config(*words):
    return small("tests.helpers.regrouping", *FEW, *words)


def teams_of(record):
    """Members of each team, as its calls show them."""
    calls = call_rows(record.calls)
    return {team: sorted({call.client for call in calls if call.team == team}) for team in (0, 1)}


def test_a_method_may_form_teams_anew_between_rounds():
    with Federation(config()) as federation:
        records = list(federation)
    assert [teams_of(record) for record in records] == [
        {0: [0, 1, 2, 3], 1: [4, 5, 6, 7]},
        {0: [1, 2, 3, 4], 1: [0, 5, 6, 7]},  # moved on by one after round 1
        {0: [2, 3, 4, 5], 1: [0, 1, 6, 7]},  # and by two after round 2, counted from the clients in order
    ]


def test_members_come_back_with_a_checkpoint(tmp_path):
    with Federation(config()) as whole:
        for _ in range(3):
            whole.run_round()
        expected = whole.fingerprint()
    with Federation(config()) as first:
        first.run_round()
        path = first.save(tmp_path)
    with Federation(config()) as second:
        second.restore(path)
        assert second.invite() == list(range(8))
        assert teams_of(second.run_round()) == {0: [1, 2, 3, 4], 1: [0, 5, 6, 7]}
        second.run_round()
        assert second.fingerprint() == expected


@pytest.mark.parametrize(
    ("formed", "message"),
    [
        ({0: [0, 1, 2, 3], 1: [3, 4, 5, 6, 7]}, "each of the 8 clients in one of them"),
        ({0: [0, 1, 2, 3], 1: [4, 5, 6]}, "each of the 8 clients in one of them"),
        ({0: [0, 1, 2, 3], 2: [4, 5, 6, 7]}, r"expected teams \[0, 1\]"),
        ({0: [], 1: list(range(8))}, "left team 0 without a client"),
    ],
)
def test_impossible_teams_are_refused(monkeypatch, formed, message):
    monkeypatch.setattr(Regrouping, "regroup", lambda self, g, topology, context: formed)
    with Federation(config()) as federation, pytest.raises(TopologyError, match=message):
        federation.run_round()


def test_teams_are_told_what_was_decided_for_them_and_draw_the_rest():
    quiet = Decisions({client: {} for client in range(8)}, teams={0: {"noise": 0.0}, 1: {"noise": 0.0}})
    with Federation(config("rounds=1")) as told, Federation(config("rounds=1")) as drawn:
        told.run_round(quiet)
        drawn.run_round()
        a, b = told.rounds.snapshot().server.params, drawn.rounds.snapshot().server.params
    difference = torch.cat([(b[name] - a[name]).flatten() for name in a])
    assert 1e-4 < difference.abs().mean() < 0.05  # the two teams' draws of N(0, 0.01²), averaged


def test_a_servers_draws_follow_the_seed():
    def server(seed):
        with Federation(config("rounds=1", f"seed={seed}")) as federation:
            federation.run_round()
            return federation.fingerprint()["models"]

    assert server(0) == server(0) != server(1)


def test_a_team_that_breaks_is_one_failure_and_the_others_run_once_each(monkeypatch):
    world, made = build_world(config()), []

    def rounds(self, call):
        made.append(call.team)
        yield
        if call.team == 0:
            raise TopologyError("no neighbours")
        yield
        return call.team

    monkeypatch.setattr(TeamServer, "rounds", rounds)
    teams = LocalTeams(world, ClientHost(world, "cpu"), world.data.teams)
    tickets = teams.submit([TeamCall(team, 1, members, None) for team, members in world.data.teams.items()])
    broken, reply = teams.results(tickets)
    assert isinstance(broken, Failure)
    assert (str(broken.error), reply) == ("no neighbours", 1)
    assert list(teams.results(tickets)) == [broken, reply]
    assert made == [0, 1]


def test_teams_take_turns_so_that_the_clients_of_all_are_trained_as_one(monkeypatch):
    together, answer = [], Batched.answer
    monkeypatch.setattr(Batched, "answer", lambda self, asked: together.append(len(asked)) or answer(self, asked))

    def played(*words):
        together.clear()
        with Federation(config("rounds=2", "training.batch_clients=8", *words)) as federation:
            for _ in federation:
                pass
            return federation.fingerprint()

    side_by_side = played()
    assert max(together) == 8
    plain = LocalTeams._make
    monkeypatch.setattr(LocalTeams, "_make", lambda self, calls: [made for c in calls for made in plain(self, [c])])
    assert (played(), max(together)) == (side_by_side, 4)


def test_whatever_a_client_is_asked_for_after_a_regroup_knows_its_team_of_now(monkeypatch):
    seen = []

    def noting(name):
        plain = getattr(Regrouping, name)

        def noted(self, info, *rest):
            seen.append((name, info.id, info.team))
            return plain(self, info, *rest)

        monkeypatch.setattr(Regrouping, name, noted)

    def probe_step(self, info, down, context):
        seen.append(("probe_step", info.id, info.team))
        return ClientResult(None, None)
        yield

    monkeypatch.setattr(Regrouping, "probe", lambda self, g: 1.0)
    monkeypatch.setattr(Regrouping, "probe_step", probe_step)
    for name in ("default_assignment", "init_client", "client_step", "client_evaluate"):
        noting(name)
    with Federation(config("clients.participation=0.25")) as federation:
        federation.run_round()
        moved = {0: [1, 2, 3, 4], 1: [0, 5, 6, 7]}
        now = {client: team for team, members in moved.items() for client in members}
        seen.clear()
        calls = call_rows(federation.probe(range(8)))
        federation.run_round()
        assert {name for name, *_ in seen} == {
            "probe_step", "default_assignment", "init_client", "client_step", "client_evaluate",
        }  # fmt: skip
        before = seen[: [name for name, *_ in seen].index("client_evaluate")]
        assert [(name, client, team) for name, client, team in before if now[client] != team] == []
        assert {call.client: call.team for call in calls} == now


def test_clients_are_evaluated_as_members_of_their_team_of_now(monkeypatch):
    seen = {}
    plain = Regrouping.client_evaluate

    def client_evaluate(self, info, state, shared):
        seen[info.id] = info.team
        return plain(self, info, state, shared)

    monkeypatch.setattr(Regrouping, "client_evaluate", client_evaluate)
    with Federation(config("rounds=1")) as federation:
        federation.run_round()
    assert seen == {0: 1, 1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 6: 1, 7: 1}


def test_a_method_may_form_teams_of_numpys_numbers(monkeypatch, tmp_path):
    formed = {np.int64(0): np.array([7, 6, 5, 4]), np.int64(1): np.array([0, 1, 2, 3])}
    monkeypatch.setattr(Regrouping, "regroup", lambda self, g, topology, context: formed)
    with Federation(config("rounds=2")) as federation:
        federation.run_round()
        path = federation.save(tmp_path)
        record = federation.run_round()
        expected = federation.fingerprint()
        federation.restore(path)
        federation.run_round()
        assert federation.fingerprint() == expected
    assert teams_of(record) == {0: [4, 5, 6, 7], 1: [0, 1, 2, 3]}
    assert json.dumps(list(record.calls.rows()))
