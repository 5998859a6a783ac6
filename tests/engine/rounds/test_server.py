"""Cohorts, deadlines, dropouts and the clock: closed forms on a method whose work is known."""

import pytest

from strata.algorithms.permfl import PerMFL, Pulls
from strata.engine.build import build_world
from strata.engine.errors import ActionError, ConfigError
from strata.engine.federation import Federation
from strata.engine.method.situation import Decisions
from strata.engine.tree import fingerprint
from tests.helpers.calls import call_rows
from tests.helpers.small import rewind_and_replay, small


def one_call(world):
    """Bytes, FLOPs and steps of one FedAvg call of every client, by hand."""
    model = 4 * (784 * 10 + 10)
    down = model + 8 + 8  # and two numbers, epochs and steps
    return down, model


def test_the_clock_of_a_flat_round_is_its_formula():
    config = small("fedavg", "rounds=1", "delays.jitter=none", "delays.server_latency_s=0.5")
    with Federation(config) as federation:
        (record,) = federation
        world = federation.world
    bytes_down, bytes_up = one_call(world)
    totals = []
    calls = call_rows(record.calls)
    for client, profile in enumerate(world.profiles):
        n = len(world.data.clients[client].train)
        flops = 2 * (2 * n * 784 * 10)  # forward, and the gradient of the weights; one epoch sees every sample once
        totals.append(
            profile.latency_s
            + bytes_down / profile.down_bytes_per_s
            + flops / profile.flops_per_s
            + bytes_up / profile.up_bytes_per_s
        )
        call = calls[client]
        assert (call.client, call.bytes_down, call.bytes_up, call.flops) == (client, bytes_down, bytes_up, flops)
        assert call.total_s == pytest.approx(totals[-1], rel=1e-12)
    assert record.round_s == pytest.approx(max(totals) + 0.5, rel=1e-12)
    assert record.straggling_s == pytest.approx(max(totals) - min(totals), rel=1e-12)
    assert record.virtual_s == record.round_s
    assert record.bytes_client_down == 8 * bytes_down


def test_nested_tiers_add_up():
    config = small(
        "hsgd", "rounds=1", "delays.jitter=none", "delays.team_latency_s=0.25", "delays.team_down_bytes_per_s=1e6",
        "delays.team_up_bytes_per_s=5e5",
    )  # fmt: skip
    with Federation(config) as federation:
        (record,) = federation
        world = federation.world
    model = 4 * (784 * 10 + 10)
    seconds = []
    for team in world.data.teams:
        total = 0.25 + model / 1e6  # the team receives x
        for k in (1, 2, 3):
            total += max(c.total_s for c in call_rows(record.calls) if c.team == team and c.team_round == k)
        seconds.append(total + model / 5e5)  # and sends w_m
    assert record.round_s == pytest.approx(max(seconds), rel=1e-12)
    assert (record.bytes_team_down, record.bytes_team_up) == (2 * model, 2 * model)


def test_a_clients_rate_is_limited_by_its_servers():
    config = small("fedavg", "rounds=1", "delays=none", "delays.server_up_bytes_per_s=1000", "delays.jitter=none")
    with Federation(config) as federation:
        (record,) = federation
    assert record.calls.download_s[0] == pytest.approx(record.calls.bytes_down[0] / 1000)
    assert record.calls.compute_s[0] == 0.0


def test_participation_of_clients_and_teams():
    config = small("permfl", "clients.participation=0.5", "teams.participation=0.5", "rounds=2")
    with Federation(config) as federation:
        records = list(federation)
    for record in records:
        assert len({call.team for call in call_rows(record.calls)}) == 1
        for k in (1, 2, 3):
            assert sum(call.team_round == k for call in call_rows(record.calls)) == 2  # half of the team's four


def test_dropouts_lose_the_upload_and_keep_the_clients_state():
    with Federation(small("permfl", "rounds=1", "delays.dropout=0")) as federation:
        list(federation)
        trained = federation.rounds.snapshot()
    assert sorted(client for client, state in trained.clients.items() if state.theta) == list(range(8))
    before = fingerprint(trained.server), fingerprint(trained.clients)
    with Federation(small("permfl", "rounds=1", "delays.dropout=1.0")) as federation:
        federation.rounds.restore(trained)
        (record,) = federation
        states = federation.rounds.snapshot()
    assert (record.completed, record.lost) == (0, 8 * 3)
    assert record.train_loss is None
    assert record.bytes_client_up == 0
    # Nobody answered, so the global model stays as well.
    assert (fingerprint(states.server), fingerprint(states.clients)) == before


def test_deadlines_of_both_tiers_count_what_they_drop():
    config = small("permfl", "rounds=1", "delays.jitter=none")
    with Federation(config) as federation:
        (free,) = federation
    limit = sorted(call.total_s for call in call_rows(free.calls))[len(free.calls) // 2]
    config = small("permfl", "rounds=1", "delays.jitter=none", "clients.mode=deadline", f"clients.deadline_s={limit}")
    with Federation(config) as federation:
        (bounded,) = federation
    assert bounded.late == sum(call.total_s > limit for call in call_rows(free.calls)) > 0
    assert bounded.completed + bounded.late == bounded.invited
    assert bounded.round_s < free.round_s
    config = small("permfl", "rounds=1", "delays.jitter=none", "teams.mode=deadline", "teams.deadline_s=0.0001")
    with Federation(config) as federation:
        (nobody,) = federation
    assert nobody.metrics == {"teams": 2, "late_teams": 2}
    assert nobody.bytes_team_up == 2 * 4 * (784 * 10 + 10)  # late uploads travel all the same
    assert nobody.round_s == pytest.approx(0.0001)


def test_a_lost_call_ends_within_its_phase():
    with Federation(small("fedavg", "rounds=1", "delays.jitter=none")) as federation:
        (whole,) = federation
    with Federation(small("fedavg", "rounds=1", "delays.jitter=none", "delays.dropout=1")) as federation:
        (lost,) = federation
    for full, part in zip(call_rows(whole.calls), call_rows(lost.calls), strict=True):
        assert 0 < part.total_s < full.total_s
        assert part.latency_s == full.latency_s or part.download_s == part.compute_s == part.upload_s == 0
        assert part.download_s == full.download_s or part.compute_s == part.upload_s == 0
        assert part.compute_s == full.compute_s or part.upload_s == 0


@pytest.mark.parametrize("formation", ["similarity", "hierarchical"])
def test_teams_formed_by_model_updates_gather_clients_with_the_same_labels(formation):
    # Clients 0..7 hold labels (u, u+1) mod 10: neighbours share one, so updates of neighbours are alike.
    world = build_world(small("permfl", f"teams.formation={formation}", "clients.count=20", "teams.count=2"))
    assert sorted(c for members in world.data.teams.values() for c in members) == list(range(20))
    twins = sum(world.team_of[u] == world.team_of[u + 10] for u in range(10))  # u and u+10 hold the same labels
    assert twins >= 9


def test_sleep_mode_sleeps_and_reports_the_same_seconds():
    import time

    quick = small("fedavg", "rounds=1")
    with Federation(quick) as federation:
        (expected,) = federation
    slow = small("fedavg", "rounds=1", "delays.mode=sleep", "delays.sleep_scale=0.5")
    with Federation(slow) as federation:
        began = time.perf_counter()
        (record,) = federation
        took = time.perf_counter() - began
    assert record.calls == expected.calls
    assert took >= 0.5 * sum(call.total_s for call in call_rows(record.calls))


@pytest.mark.parametrize(("lost", "kept"), [(0.0, Pulls(0.25, 1.25)), (1.0, None)])
def test_what_was_decided_stays_if_uploads_counted_even_where_the_method_hands_its_state_back(monkeypatch, lost, kept):
    monkeypatch.setattr(PerMFL, "global_step", lambda self, g, ups, context: g)
    with Federation(small("permfl", f"delays.dropout={lost}")) as federation:
        federation.run_round(Decisions({client: {} for client in range(8)}, {"lam": 0.25, "gamma": 1.25}))
        assert federation.rounds.snapshot().server.pulls == kept


@pytest.mark.parametrize(("method", "uploads"), [("fedavg", 8), ("permfl", 2)])
def test_an_outcome_says_how_many_uploads_counted(method, uploads):
    with Federation(small(method)) as federation:
        assert federation.rounds.run_round().counted == uploads
    with Federation(small(method, "delays.dropout=1.0")) as federation:
        assert federation.rounds.run_round().counted == 0


@pytest.mark.parametrize(("method", "share"), [("standalone", 0.5), ("permfl", 0.3)])
def test_a_federation_rewound_in_place_goes_on_as_one_that_was_not_disturbed(tmp_path, method, share):
    few = (
        f"clients.participation={share}",
        "rounds=3",
    )  # some clients are called after the checkpoint for the first time
    with Federation(small(method, *few)) as federation:
        rewind_and_replay(federation, tmp_path)


def test_rounds_have_one_count_and_one_clock_wherever_they_are_driven_from():
    with Federation(small("fedavg", "rounds=3")) as federation:
        federation.rounds.run_round()  # past the federation, which hears of it with the next round
        record = federation.run_round()
        snapshot = federation.rounds.snapshot()
        assert (federation.round, record.round, snapshot.round) == (2, 2, 2)
        assert federation.virtual_s == record.virtual_s == snapshot.virtual_s
        assert len(list(federation)) == 1


def test_probes_before_a_round_add_up():
    config = small("hapfl", "model=mlp", "agents.policy=none", "delays.jitter=none")
    with Federation(config) as federation:
        plain = federation.run_round().round_s
    with Federation(config) as federation:
        first, second = federation.probe([0, 1]), federation.probe([2])
        record = federation.run_round()
        assert federation.run_round().calls.client.tolist() == list(range(8)), "probes were charged twice"
    assert (len(first), len(second)) == (2, 1)
    assert record.calls.client.tolist() == [0, 1, 2, *range(8)]
    both = max(call.total_s for call in call_rows(first)) + call_rows(second)[0].total_s
    assert record.round_s == pytest.approx(plain + both, rel=1e-12)
    assert record.bytes_client_down - first.bytes_down.sum() - second.bytes_down.sum() > 0


@pytest.mark.parametrize(
    ("method", "decisions", "message"),
    [
        ("tests.helpers.regrouping", {"teams": {7: {"noise": 0.0}}}, r"round 1: .* team 7, .* expected some of 0, 1"),
        ("permfl", {"teams": {0: {"lam": 0.1}}}, r"round 1: PerMFL takes no decisions for teams.*got some for team 0"),
        ("fedavg", {"teams": {0: {}}}, r"round 1: FedAvg takes no decisions for teams"),
        ("fedavg", {"server": {"lam": 0.1}}, r"FedAvg takes no decisions for its server.*got lam"),
    ],
)
def test_decisions_that_nobody_would_follow_are_refused(method, decisions, message):
    with Federation(small(method)) as federation:
        with pytest.raises(ActionError, match=message):
            federation.run_round(Decisions({client: {} for client in range(8)}, **decisions))
        assert federation.round == federation.rounds.snapshot().round == 0


@pytest.mark.parametrize("method", ["fedavg", "permfl"])
def test_an_evaluation_of_some_clients_is_that_of_all_restricted_to_those_drawn(method):
    def scored(*words):
        with Federation(small(method, *words)) as federation:
            return [record.scores for record in federation]

    everybody, some = scored(), scored("evaluation.clients=3")
    assert scored("evaluation.clients=3") == some
    drawn = [tuple(scores["GM"].clients) for scores in some]
    assert [len(clients) for clients in drawn] == [3, 3, 3]
    assert len(set(drawn)) > 1
    for whole, part in zip(everybody, some, strict=True):
        assert part.keys() == whole.keys()
        for kind, scores in part.items():
            assert scores.clients == {client: whole[kind].clients[client] for client in scores.clients}
    assert scored("evaluation.clients=100") == everybody


def test_how_many_are_evaluated_is_said():
    said = []
    Federation(small("fedavg", "evaluation.clients=3"), said.append).close()
    assert said[1:] == ["evaluation.clients=3: accuracies are those of so many of the 8 clients, drawn anew each time"]
    with pytest.raises(ConfigError, match=r"evaluation.clients=0: expected all or a whole number ≥ 1"):
        small("fedavg", "evaluation.clients=0")
