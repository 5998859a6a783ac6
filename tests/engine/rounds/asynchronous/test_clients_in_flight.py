"""Whole federations whose servers do not wait for all clients: bits, clocks, states and checkpoints."""

import itertools

import pytest
import torch

from strata.algorithms.fedavg import FedAvg
from strata.engine.build import build_world
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.calls import NO_TEAM, STALE
from strata.engine.method.find import load_method, method_names
from strata.engine.rounds import cohort
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.costs import Prices
from strata.engine.rounds.pools import ClientCall, EvaluationCall
from strata.engine.tree import fingerprint
from tests.helpers.small import BUFFERED, HALF, NOISY, played, resume_in_flight, rewind_and_replay, small

FLAT = [method for method in method_names() if issubclass(load_method(method), FlatAlgorithm)]
SLOW = ("fedtp", "perfedrlnas", "hapfl")  # their rounds take seconds


@pytest.mark.parametrize(
    "method",
    [pytest.param(method, marks=[pytest.mark.slow, pytest.mark.exhaustive] * (method in SLOW)) for method in FLAT],
)
@pytest.mark.parametrize("update", ["model", "change"])
def test_a_buffer_of_the_whole_cohort_is_a_synchronous_round(method, update):
    if update == "change" and method in ("fedkd", "fedproto"):
        return  # refused, see below
    words = (*NOISY, *HALF, "rounds=3", "delays.server_latency_s=0.25")
    start, waited, theirs = played(method, *words)
    _, taken, ours = played(method, *words, "clients.mode=async", "clients.buffer=4", f"clients.update={update}")
    assert start["models"] != theirs["models"]
    assert (ours["models"], ours["clock"]) == (theirs["models"], theirs["clock"])
    assert [record.calls for record in taken] == [record.calls for record in waited]
    assert [record.scores for record in taken] == [record.scores for record in waited]
    assert sum(record.lost for record in taken) > 0


@pytest.mark.parametrize("method", [method for method in FLAT if method not in SLOW])
def test_no_call_takes_less_than_its_price(monkeypatch, method):
    priced, exact = {}, []
    price = Prices.__call__

    def noted(self, call):
        reply = price(self, call)
        priced[call.client, call.round] = reply.seconds
        return reply

    monkeypatch.setattr(Prices, "__call__", noted)
    with Federation(small(method, *NOISY, *BUFFERED, "rounds=8")) as federation:
        receive = type(federation.rounds._tier).received

        def received(self, call, reply, state, staleness=0):
            exact.append((reply.seconds, priced[call.client, call.round]))
            return receive(self, call, reply, state, staleness)

        monkeypatch.setattr(type(federation.rounds._tier), "received", received)
        list(federation)
    assert len(exact) > 8
    assert all(seconds >= price_s for seconds, price_s in exact)
    if method not in ("fedkd", "fedproto"):  # whose work or upload depends on what was learnt
        assert all(seconds == price_s for seconds, price_s in exact)


def test_one_upload_at_a_time_mixes_as_fedasync_says(monkeypatch):
    stepped, step = [], FedAvg.global_step

    def global_step(self, g, ups, context):
        (up,) = ups
        stepped.append((g.w, up.message.w, up.staleness))
        return step(self, g, ups, context)

    monkeypatch.setattr(FedAvg, "global_step", global_step)
    words = ("clients.mode=async", "clients.concurrency=4", "clients.mixing=0.6", "clients.staleness=polynomial")
    with Federation(small("fedavg", *words, *NOISY, "clients.staleness_exponent=1", "rounds=9")) as federation:
        list(federation)
        last = federation.rounds.snapshot().server.w
    befores = [before for before, _, _ in stepped]
    for (before, up, stale), after in zip(stepped, [*befores[1:], last], strict=True):
        alpha = 0.6 / (stale + 1)
        for name, value in after.items():
            torch.testing.assert_close(value, (1 - alpha) * before[name] + alpha * up[name])
    assert len({stale for _, _, stale in stepped}) > 2


def test_changes_are_added_as_fedbuff_says(monkeypatch):
    trained, stepped = {}, []
    client_step, step = FedAvg.client_step, FedAvg.global_step

    def noted(self, info, state, down, context):
        result = yield from client_step(self, info, state, down, context)
        trained[info.id] = {name: value - down.w[name] for name, value in result.up.w.items()}  # Δ of the last call
        return result

    def global_step(self, g, ups, context):
        stepped.append((g.w, [(up.samples, up.staleness, trained[up.sender]) for up in ups]))
        return step(self, g, ups, context)

    monkeypatch.setattr(FedAvg, "client_step", noted)
    monkeypatch.setattr(FedAvg, "global_step", global_step)
    words = ("clients.update=change", "clients.mixing=0.5", "clients.staleness=polynomial", "rounds=6")
    with Federation(small("fedavg", *BUFFERED, *words, "delays=pareto", "agents.policy=none")) as federation:
        list(federation)
        last = federation.rounds.snapshot().server.w
    befores = [before for before, _ in stepped]
    for (before, buffer), after in zip(stepped, [*befores[1:], last], strict=True):
        total = sum(samples for samples, _, _ in buffer)
        for name, value in after.items():
            change = sum(n / total * (1 + s) ** -0.5 * delta[name] for n, s, delta in buffer)
            torch.testing.assert_close(value, before[name] + 0.5 * change, rtol=1e-4, atol=1e-6)
    assert any(stale for _, buffer in stepped for _, stale, _ in buffer)


def test_what_is_dropped_is_in_the_table_of_calls_and_counted():
    _, records, _ = played("fedavg", *NOISY, *BUFFERED, "clients.buffer=1", "clients.max_staleness=2", "rounds=30")
    dropped = [int((record.calls.status == STALE).sum()) for record in records]
    assert [record.metrics["async/stale"] for record in records] == dropped
    assert sum(dropped) > 0
    for record, count in zip(records, dropped, strict=True):
        ages = {int(name.rpartition("/")[2]): n for name, n in record.metrics.items() if "/staleness/" in name}
        assert sum(ages.values()) == record.completed
        assert all(age <= 2 for age in ages)
        assert record.invited == record.completed + record.lost + count
        assert record.straggling_s == record.metrics["async/idle_s"]


def test_calls_are_there_once_each_and_those_of_the_last_step_are_still_on_their_way():
    _, records, _ = played("fedavg", *NOISY, *BUFFERED, "rounds=10", "delays.availability=1")
    on_call = 0
    for record in records:
        on_call = 5 - len(record.calls)  # five at the start of each step, of whom those in its table came back
        assert record.metrics["async/in_flight"] == on_call
    virtual = list(itertools.pairwise([0.0, *(record.virtual_s for record in records)]))
    assert all(after - before == pytest.approx(r.round_s) for (before, after), r in zip(virtual, records, strict=True))


def test_nobody_there_at_the_start_costs_a_round_and_no_time():
    start, records, end = played("fedavg", *BUFFERED, "delays.availability=0.000001", "rounds=2")
    assert [(r.virtual_s, r.invited, r.metrics["async/in_flight"]) for r in records] == [(0.0, 0, 0.0)] * 2
    assert start["models"] == end["models"]


def test_calls_go_on_while_the_server_and_probes_take_their_time():
    words = ("clients.mode=async", "clients.concurrency=4", "delays.server_latency_s=100", "delays.latency_s=0")
    with Federation(small("fedavg", *words, "delays=pareto", "delays.availability=1", "rounds=5")) as federation:
        first, second = federation.run_round(), federation.run_round()
        assert first.round_s > 100
        # All calls are over within seconds, so three uploads lie there when the second step begins.
        assert second.round_s == 100
        assert second.metrics["async/idle_s"] == pytest.approx(first.round_s - second.calls.total_s[0])
        probes = federation.probe([0, 1])
        assert federation.run_round().round_s == 100 + probes.total_s.max()


@pytest.mark.parametrize("method", ["fedavg", "lg_fedavg", "fedkd", "pfedme"])
def test_a_rewound_run_calls_again_what_was_in_flight(tmp_path, method):
    words = ("clients.mode=async", "clients.concurrency=3", "clients.buffer=2", "delays=pareto", "rounds=6")
    with Federation(small(method, *words, "clients.staleness=polynomial", "agents.policy=none")) as federation:
        rewind_and_replay(federation, tmp_path)


@pytest.mark.parametrize("rounds", [1, 4, 7])
def test_a_resumed_run_ends_like_one_that_was_not_disturbed(tmp_path, rounds):
    words = (*NOISY, *BUFFERED, "clients.update=change", "clients.staleness=hinge", "clients.staleness_grace=0")
    config = small("lg_fedavg", *words, "rounds=10", "delays.server_latency_s=0.1")
    resume_in_flight(config, tmp_path, rounds, lambda saved: len(saved.aloft.calls) > 0)


def test_checkpoints_one_after_the_other_hold_what_was_taken_in_between(tmp_path):
    config = small("lg_fedavg", *NOISY, *BUFFERED, "rounds=9", "clients.buffer=1", "checkpoint.keep=9")
    with Federation(config) as federation:
        kept = {}
        while federation.round < 9:
            federation.run_round()
            kept[federation.save(tmp_path)] = fingerprint(federation.rounds.snapshot().clients)
        for path, clients in kept.items():
            federation.restore(path)
            assert fingerprint(federation.rounds.snapshot().clients) == clients
    assert len(set(kept.values())) > 5


def test_a_client_is_what_it_was_until_its_upload_is_taken_in():
    world = build_world(small("lg_fedavg", "clients.mode=async", "agents.policy=none"))
    g = world.algorithm.init_global(0)
    host = ClientHost(world, "cpu")
    (call,) = cohort.client_calls(world, g, cohort.Moment(3, 1), NO_TEAM, {2: {"epochs": 1, "steps": 0}})
    before = host.evaluate(EvaluationCall([2], {}))
    (reply,) = host.results(host.submit([call]))
    assert reply.up is not None
    first = fingerprint(host.states([2], -1))
    assert host.evaluate(EvaluationCall([2], {})) == before
    host.settle([call.key], 8)
    assert host.evaluate(EvaluationCall([2], {})) != before
    assert fingerprint(host.states([2], 7)) != first  # changed when it was taken in, not when it was called
    assert host.states([2], 8) == {}


def test_a_client_that_is_restored_is_not_what_an_abandoned_call_made_of_it():
    world = build_world(small("lg_fedavg", "clients.mode=async", "agents.policy=none"))
    host, g = ClientHost(world, "cpu"), world.algorithm.init_global(0)
    (call,) = cohort.client_calls(world, g, cohort.Moment(3, 1), NO_TEAM, {2: {"epochs": 1, "steps": 0}})
    list(host.results(host.submit([call])))
    own = host.states([2], -1)
    host.restore([2], own)
    host.settle([call.key], 4)
    assert fingerprint(host.states([2], -1)) == fingerprint(own)


@pytest.mark.parametrize("method", ["fedkd", "fedproto"])
def test_changes_of_uploads_that_hold_no_model_are_refused_before_anything_is_called(method):
    config = small(method, *BUFFERED, "clients.update=change", "agents.policy=none")
    with pytest.raises(ConfigError, match=r"update=change: an upload of Up .* Set update=model"):
        Federation(config)
    Federation(small(method, "clients.update=change", "agents.policy=none")).close()  # where all are waited for


def test_a_call_that_is_sent_nothing_has_the_price_of_one_that_is(monkeypatch):
    world = build_world(small("fedavg", "delays=pareto", "agents.policy=none"))
    told = world.algorithm.default_assignment(world.infos[1])
    (sent,) = cohort.client_calls(world, world.algorithm.init_global(0), cohort.Moment(2, 1), NO_TEAM, {1: told})
    prices = Prices(world)
    assert prices(sent).seconds == prices(ClientCall(1, NO_TEAM, 2, 1, told)).seconds > 0
