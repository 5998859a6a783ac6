"""Clients that never train, and what is said of them."""

import pytest
import torch

from strata.engine.build import build_world
from strata.engine.errors import ConfigError, TopologyError
from strata.engine.federation import Federation
from tests.helpers.small import BUFFERED, HALF, played, small

UNSEEN = "evaluation.unseen=0.25"


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("fedavg", ()),
        ("fedavg", BUFFERED),
        ("fedbabu", ()),
        ("fml", ()),
        ("hsgd", ("clients.mode=async", "clients.buffer=2")),
        ("hsgd", ("teams.mode=async", "teams.buffer=1")),
        ("tests.helpers.regrouping", ()),
    ],
)
def test_the_unseen_are_never_called_and_are_scored_apart(method, words):
    with Federation(small(method, UNSEEN, *words)) as federation:
        unseen = set(federation.world.unseen)
        records = list(federation)
    assert len(unseen) == 2
    for record in records:
        called = {int(client) for client in record.calls.client}
        assert called
        assert not called & unseen
        for kind in ("GM", "TM", "PM"):
            assert (kind in record.scores) == (f"unseen {kind}" in record.scores)
            if kind in record.scores:
                assert set(record.scores[f"unseen {kind}"].clients) == unseen
                assert set(record.scores[kind].clients) == set(range(8)) - unseen


def test_the_global_model_is_tested_on_their_own_rows():
    with Federation(small("fedavg", UNSEEN, *HALF)) as federation:
        *_, record = federation
        model, data = federation.global_model(), federation.world.data
        for client in federation.world.unseen:
            rows = data.clients[client].test
            x = (torch.from_numpy(data.dataset.x[rows]).float().div(255) - data.dataset.shift) / data.dataset.scale
            right = (model(x).argmax(1).numpy() == data.dataset.y[rows]).mean()
            assert record.scores["unseen GM"].clients[client] == pytest.approx(right)


def test_a_new_client_is_fine_tuned_or_served_with_the_global_model():
    tuned = played("fedavg", UNSEEN, "evaluation.personal=tuned")[1][-1].scores
    last = played("fedavg", UNSEEN, "evaluation.personal=last")[1][-1].scores
    assert tuned["unseen PM"].loss < tuned["unseen GM"].loss
    assert last["unseen PM"].clients == last["unseen GM"].clients
    assert last["unseen PM"].hurt == 0


def test_shares_are_of_those_that_train():
    # Of 8 clients, 2 are unseen; half of the other 6 are invited.
    records = played("fedavg", UNSEEN, *HALF)[1]
    assert [record.invited for record in records] == [3, 3, 3]
    world = build_world(small("scaffold", UNSEEN))
    assert world.algorithm.population == 6


def test_a_draw_of_clients_is_made_on_both_sides():
    records = played("fedavg", UNSEEN, "evaluation.clients=1")[1]
    assert [len(record.scores["GM"].clients) for record in records] == [1, 1, 1]
    assert [len(record.scores["unseen GM"].clients) for record in records] == [1, 1, 1]


def test_who_is_unseen_rests_on_the_seed():
    drawn = [tuple(build_world(small("fedavg", UNSEEN, f"seed={seed}")).unseen) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert build_world(small("fedavg")).unseen == []


def test_a_method_may_not_leave_a_team_with_the_unseen_alone(monkeypatch):
    with Federation(small("tests.helpers.regrouping", UNSEEN)) as federation:
        unseen = list(federation.world.unseen)
        others = [client for client in range(8) if client not in unseen]
        kind = type(federation.world.algorithm)
        monkeypatch.setattr(kind, "regroup", lambda self, g, topology, context: {0: others, 1: unseen})
        with pytest.raises(TopologyError, match=r"round 1: the method left team 1 with unseen clients alone"):
            federation.run_round()


def test_agents_decide_for_those_that_train():
    from strata.envs.opening import timing_turns

    turns = timing_turns(small("fedavg", UNSEEN, "agents.policy=none"))
    assert turns.control.cohort == 6


def test_what_leaves_nobody_to_train_is_refused():
    with pytest.raises(ConfigError, match=r"evaluation.unseen=0.95 is out of range: of clients.count=8, 8 would never"):
        small("fedavg", "evaluation.unseen=0.95")
    with pytest.raises(ConfigError, match=r"all 1 of team \d are among them: expected one at least that trains"):
        build_world(small("hsgd", "evaluation.unseen=0.4", "teams.count=8"))
    buffered = ("clients.mode=async", "clients.concurrency=8", "clients.buffer=7")
    small("fedavg", *buffered)
    with pytest.raises(ConfigError, match=r"6 of 6 clients on a call at a time"):
        small("fedavg", *buffered, UNSEEN)
