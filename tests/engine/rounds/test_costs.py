"""Costs counted without training equal those of the calls themselves."""

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest

from strata.algorithms.fedavg import FedAvg
from strata.engine.build import build_world
from strata.engine.federation import Federation
from strata.engine.method.length import Length
from strata.engine.method.requests import Sgd, Train
from strata.engine.method.situation import CallCost, Decisions
from strata.engine.rounds.costs import CallCosts
from strata.engine.training.batches import batch_sizes, plan_batches
from tests.helpers.calls import call_rows
from tests.helpers.small import small

WORK = [Length(steps=s) for s in (1, 2, 3, 7, 20)] + [Length(epochs=e) for e in (1, 2, 5)]


@pytest.mark.parametrize("work", WORK, ids=str)
@pytest.mark.parametrize("repeat", [False, True])
def test_batch_sizes_are_those_of_the_batches(work, repeat):
    for n, size in itertools.product((1, 4, 5, 8, 9, 10, 23), (1, 4, 5, 16)):
        request = Train(None, {}, Sgd(0.1), size, work, repeat_batch=repeat)
        found = np.unique([len(batch) for batch in plan_batches(n, request, seed=n)], return_counts=True)
        assert batch_sizes(n, request) == dict(zip(*(part.tolist() for part in found), strict=True)), (n, size)


@pytest.mark.parametrize(
    ("method", "overrides", "assignment"),
    [
        ("fedavg", ["method.batch_size=16"], {"epochs": 3}),
        ("fedavg", ["method.batch_size=16"], {}),
        ("fedprox", ["method.batch_size=16", "method.steps=5"], {}),
        ("pfedme", ["method.batch_size=16"], {}),
        ("permfl", ["method.batch_size=16", "method.team_rounds=1", "method.local_steps=2"], {}),
        ("hapfl", ["model=mlp", "method.batch_size=16"], {"size": 3, "epochs": 2}),
        ("hapfl", ["model=mlp", "method.batch_size=16", "method.steps=4"], {"size": 0, "steps": 3}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_call_costs_what_was_counted(method, overrides, assignment):

    config = small(method, "rounds=1", "agents.policy=none", "clients.participation=1", *overrides)
    with Federation(config) as federation:
        costs = CallCosts(federation.world)
        expected = [costs.call(client, assignment) for client in range(8)]
        record = federation.run_round(Decisions(dict.fromkeys(range(8), assignment)))
    found = {call.client: (call.bytes_down, call.bytes_up, call.flops) for call in call_rows(record.calls)}
    assert len(record.calls) == 8
    assert found == {c: (cost.bytes_down, cost.bytes_up, cost.flops) for c, cost in enumerate(expected)}
    assert min(cost.flops for cost in expected) > 0


def test_a_probe_costs_what_was_counted():
    config = small("hapfl", "model=mlp", "agents.policy=none", "method.batch_size=16")
    with Federation(config) as federation:
        costs = CallCosts(federation.world)
        for call in call_rows(federation.probe(range(8))):
            cost = costs.probe(call.client)
            assert (call.bytes_down, call.bytes_up, call.flops) == (cost.bytes_down, 0, cost.flops)
            assert cost.bytes_up == 0
            assert cost.flops > 0


def test_what_differs_in_nothing_a_client_receives_is_counted_once(monkeypatch):
    counted = []
    monkeypatch.setattr(CallCosts, "_count", lambda self, call, steps: counted.append(call.client) or CallCost(1, 1, 1))
    costs = CallCosts(build_world(small("hapfl", "model=mlp", "method.batch_size=16")))
    for weight in np.linspace(0.1, 0.9, 50):  # the server's own business
        costs.call(3, {"size": 1, "epochs": 2, "weight": float(weight)})
    assert counted == [3]
    costs.call(3, {"size": 1, "epochs": 2})
    assert counted == [3]
    costs.call(3, {"size": 2, "epochs": 2})
    costs.call(3, {"size": 1, "epochs": 3})
    costs.call(4, {"size": 1, "epochs": 2})
    assert counted == [3, 3, 3, 4]
    assert len(costs._known) < 12, "every weight is kept"


EPOCHAL = ["hapfl", "fedavg", "fedddrl", "fedprox", "scaffold", "ditto", "fedrep"]


@pytest.mark.parametrize("method", EPOCHAL)
def test_calls_cost_by_their_epochs_what_their_own_conversations_do(method):
    costs, made = CallCosts(build_world(small(method, "agents.policy=none", "method.batch_size=16"))), []
    plain = costs._made
    costs._made = lambda call: made.append(call.client) or plain(call)
    for client in range(2):
        for epochs in (4, 1, 2, 3, 31, 7):
            found = costs.call(client, {"epochs": epochs, "steps": 0})
            assert found == plain(costs._called(client, {"epochs": epochs, "steps": 0}))
    assert made == [0, 0, 0, 1, 1, 1]


class Steep(FedAvg):
    """Federated averaging in which a client makes more passes than it is told, the more so the more it is told."""

    __module__ = "strata.algorithms.fedavg"

    def client_step(self, info, state, down, context):
        longer = replace(down, length=Length(down.length.epochs**2))
        return (yield from super().client_step(info, state, longer, context))


def test_what_grows_by_no_line_is_counted_for_each_number_of_epochs():
    world = build_world(small("fedavg", "method.batch_size=16"))
    costs = CallCosts(replace(world, algorithm=Steep(world.algorithm.config, world.algorithm.model)))
    found = [costs.call(0, {"epochs": epochs, "steps": 0}).flops for epochs in (1, 2, 3, 4, 5, 6)]
    assert found == [found[0] * epochs**2 for epochs in (1, 2, 3, 4, 5, 6)]


def test_where_minibatch_steps_are_counted_each_number_has_a_conversation_of_its_own():
    costs = CallCosts(build_world(small("hapfl", "agents.policy=none", "method.batch_size=16", "method.steps=4")))
    for steps in (1, 2, 9):
        call = costs._called(0, {"size": 1, "steps": steps})
        assert costs.call(0, {"size": 1, "steps": steps}) == costs._made(call)


def test_what_is_kept_is_bounded_and_what_was_dropped_costs_the_same(monkeypatch):
    world = build_world(small("hapfl", "model=mlp", "agents.policy=none", "method.batch_size=16"))
    plans = [{"size": size, "epochs": 2} for size in range(4)]
    unbounded = CallCosts(world)
    expected = [unbounded.call(0, plan) for plan in plans]
    monkeypatch.setattr("strata.engine.rounds.costs.COSTS_KEPT", 3)
    costs = CallCosts(world)
    for _ in range(2):
        assert [costs.call(0, plan) for plan in plans] == expected
        assert costs.probe(0) == unbounded.probe(0)
        assert len(costs._known) <= 3


def test_a_cost_is_kept_by_few_bytes_however_large_the_model():
    world = build_world(small("perfedrlnas", "agents.policy=none"))
    costs = CallCosts(world)
    for client in range(3):
        costs.call(client, {})
    received = [key for key in costs._known if "receives" in key]
    assert len(received) == 3
    assert max(len(pickle.dumps(key)) for key in received) < 100


def test_a_probe_is_an_epoch_of_the_model_and_uploads_nothing():
    world = build_world(small("fedavg", "method.epochs=3"))
    costs = CallCosts(world)
    for client in (0, 5):
        probe, call = costs.probe(client), costs.call(client, {"epochs": 1})
        assert probe == CallCost(call.bytes_down, 0, call.flops)
        assert costs.call(client, {}).flops == 3 * probe.flops
