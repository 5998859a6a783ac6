"""PerFedRLNAS: fusion and conflict against numpy, what clients do and are evaluated with, FedAvg as its limit.

Parts that it rests on are tested elsewhere: slices and the memory rule in tests/engine/models/supernets, the search in
controls/test_searching.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from strata.algorithms.controls.searching import written
from strata.algorithms.perfedrlnas import GIB, Personal, Up
from strata.engine.build import build_world
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.length import Length
from strata.engine.method.messages import Context, Received
from strata.engine.method.requests import AdamW, Evaluate, Evaluation, Recalibrate, Recalibrated, Trained
from strata.engine.models.supernets.cost import cost
from strata.engine.models.supernets.sharing import extract
from strata.engine.models.supernets.subnet import SubnetSpec, shapes
from strata.engine.rounds.timed import TimedRounds
from strata.engine.seeding import generator
from strata.engine.tree import count_bytes, fingerprint
from strata.envs.opening import full_turns
from tests.helpers.calls import call_rows
from tests.helpers.moments import AT
from tests.helpers.small import small
from tests.helpers.supernets import ONE, info_of, method_of, model, searching


def index(method, **chosen):
    """The architecture with these options (in the names of the slots, dots written as _) and the largest elsewhere."""
    slots = method.supernet.space.slots
    wanted = {name.replace("_", "."): value for name, value in chosen.items()}
    return tuple(s.options.index(wanted[s.name]) if s.name in wanted else len(s.options) - 1 for s in slots)


# --- server: fusion, conflict ---------------------------------------------------------------------------------------


def mask_of(whole, part):
    """Ones where a part of this shape lies: the first entries of two axes, the central ones of a kernel's."""
    mask = np.zeros(whole)
    starts = [0 if axis < 2 else (w - p) // 2 for axis, (w, p) in enumerate(zip(whole, part, strict=True))]
    mask[tuple(slice(s, s + p) for s, p in zip(starts, part, strict=True))] = 1
    return mask


def uploads(method, g, moves):
    """One upload per (architecture, samples, factor): each trained subnet is its slice plus normal noise by factor."""
    ups = []
    for client, (architecture, samples, factor) in enumerate(moves):
        down = method.to_client(g, info_of(client), {"architecture": written(architecture), "epochs": 1, "steps": 0})
        rng = np.random.default_rng(client)
        trained = {
            name: value + factor * torch.from_numpy(rng.normal(size=tuple(value.shape)).astype("f4"))
            for name, value in down.subnet.items()
        }
        ups.append(Received(client, samples, Up(trained, 0.5, 1, 8)))
    return ups


def test_fusion_and_conflict_are_those_of_masked_deltas():
    method = method_of()
    g = method.init_global(0)
    small_one, other = index(method, stage1_width=8, stage1_kernel=3), index(method, stage1_width=8)
    moves = [(small_one, 10, 1.0), (other, 30, 0.5), (method.supernet.space.largest(), 20, 0.1)]
    ups = uploads(method, g, moves)
    after = method.global_step(g, ups, AT)
    found = method.assess(g, ups, after)
    change, deltas = {}, []
    for name, value in g.w.items():
        change[name] = np.zeros(value.shape)
    for up in ups:
        delta = {}
        for name, part in up.message.subnet.items():
            mask = mask_of(g.w[name].shape, part.shape)
            placed = np.zeros(mask.shape)
            placed[mask == 1] = part.double().numpy().ravel()
            delta[name] = mask, (placed - g.w[name].double().numpy()) * mask
            change[name] += up.samples / 60 * delta[name][1]
        deltas.append(delta)
    for name, value in g.w.items():
        np.testing.assert_allclose(after.w[name].numpy(), value.numpy() + change[name], atol=1e-5)
    for up, delta in zip(ups, deltas, strict=True):
        negative = [(moved * change[name]).sum() < 0 for name, (_, moved) in delta.items()]
        assert found[up.sender] == {"conflict": pytest.approx(np.mean(negative))}
    assert 0 < found[2]["conflict"] < 1, "the test would not tell conflicts from their absence"


def test_what_did_not_fit_is_left_out_of_the_fusion():
    method = method_of()
    g = method.init_global(0)
    ups = uploads(method, g, [(method.fixed, 10, 1.0), (method.fixed, 30, 1.0)])
    empty = replace(ups[1], message=Up({}, 0.0, 1, 0))
    after = method.global_step(g, [ups[0], empty], AT)
    assert all(torch.equal(after.w[name], value) for name, value in ups[0].message.subnet.items())
    assert method.assess(g, [ups[0], empty], after) == {0: {"conflict": 0.0}}
    assert method.global_step(g, [empty], AT) is g


# --- client: memory, batch, what travels ----------------------------------------------------------------------------


def test_budgets_belong_to_clients_and_seeds():
    method, other = method_of(memory_gib=[1.0, 3.0]), method_of(memory_gib=[1.0, 3.0], memory_seed=1)
    budgets = np.array([method.budget_bytes(info_of(client)) for client in range(300)]) / GIB
    assert budgets.min() >= 1
    assert budgets.max() <= 3
    assert abs(budgets.mean() - 2) < 0.15
    assert method.budget_bytes(info_of(7)) / GIB == budgets[7] != other.budget_bytes(info_of(7)) / GIB
    assert method_of().budget_bytes(info_of(7)) == float("inf")


def test_a_client_that_nothing_fits_uploads_nothing_and_counts_as_wrong():
    method = method_of(memory_gib=[1e-6, 1e-6])
    g = method.init_global(0)
    down = method.to_client(g, info_of(0), method.default_assignment(info_of(0)))
    before = Personal({}, (), 0.25)
    steps = method.client_step(info_of(0), before, down, None)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    result = stop.value.value
    assert result.state == replace(before, passed_over=True)
    assert not result.up.subnet
    assert count_bytes(result.up) == 24
    assert result.metrics["accuracy"] == result.metrics["batch_size"] == 0
    assert result.metrics["best_accuracy"] == 0.25


def test_a_client_trains_as_configured_and_keeps_its_best_accuracy():
    method = method_of(optimizer="adamw", lr=0.1, cosine_rounds=2, memory_gib=[0.0035, 0.0035], least_batch=4)
    down = method.to_client(method.init_global(0), info_of(0), method.default_assignment(info_of(0)))
    steps = method.client_step(info_of(0), Personal({}, (), 0.25), down, Context(2, 1, 0))
    asked = next(steps)
    spec, batch = method.spec(method.fixed), asked.batch_size
    assert (asked.model, asked.optimizer, asked.length) == (spec, AdamW(pytest.approx(0.05), 0.0), Length(1))
    sizes = {size: cost(spec, size, 2).memory_bytes / GIB for size in (4, 8, 16, 32)}
    assert batch == max(size for size, used in sizes.items() if used <= 0.0035) < 32
    assert steps.send(Trained(down.subnet, 1.0)) == Evaluate(spec, down.subnet)
    with pytest.raises(StopIteration) as stop:
        steps.send(Evaluation(1, 10, 2.0))
    result = stop.value.value
    assert result.up == Up(down.subnet, 0.1, round(sizes[batch] * GIB), batch)
    assert result.state == Personal(down.subnet, method.fixed, 0.25)
    assert (result.metrics["accuracy"], result.metrics["best_accuracy"]) == (0.1, 0.25)


def test_only_the_subnet_travels():
    method = method_of()
    g = method.init_global(0)
    for architecture in (method.supernet.space.smallest(), method.supernet.space.largest()):
        down = method.to_client(g, info_of(0), {"architecture": written(architecture), "epochs": 5, "steps": 0})
        expected = shapes(SubnetSpec(method.supernet.space, architecture, (1, 28, 28), 10))
        numbers = len(method.supernet.space.slots) + 2
        assert count_bytes(down) == 4 * sum(int(np.prod(shape)) for shape in expected.values()) + 8 * numbers


def test_a_model_without_a_space_is_refused():
    with pytest.raises(
        ConfigError, match=r"model.name=mclr: PerFedRLNAS needs a model.*mobilenetv3_small.*model.options"
    ):
        build_world(small("perfedrlnas", "model={name: mclr, options: {}}"))
    with pytest.raises(ConfigError, match=r"'big' is no architecture"):
        method_of(fixed="big")
    with pytest.raises(ConfigError, match=r"method.memory_gib=\[2.0, 1.0\]"):
        small("perfedrlnas", "method.memory_gib=[2,1]")


# --- rounds ---------------------------------------------------------------------------------------------------------


def test_one_option_per_slot_is_fedavg_to_the_bit():
    sizes = ("data.limit=240", "partition=quantity", "partition.sizes=powerlaw")
    shared = (model(ONE), *sizes, "rounds=2", "method.batch_size=16", "method.epochs=1", "method.lr=0.05")
    ours = ("method.optimizer=sgd", "method.weight_decay=0", "method.memory_gib=[]", "method.label_smoothing=0")
    ours += ("method.recalibration_batches=0",)  # FedAvg evaluates with the statistics that it averages
    ends = {}
    for method, more in (("perfedrlnas", ours), ("fedavg", ())):
        with Federation(small(method, *shared, *more)) as federation:
            records = list(federation)
            ends[method] = federation.rounds.snapshot().server.w, records
    (w, records), (expected, others) = ends.values()
    assert w.keys() == expected.keys()
    assert all(torch.equal(w[name], value) for name, value in expected.items())
    assert [r.scores["GM"] for r in records] == [r.scores["GM"] for r in others]


def test_rounds_report_what_was_chosen_and_what_it_took():
    words = ("rounds=2", "method.memory_gib=[0.002,0.004]", "method.least_batch=2", "agents.policy=none")
    config = searching(*words, "method.reward=published")
    with Federation(config) as federation:
        turns = full_turns(federation)
        method, rewards, known = federation.world.algorithm, [], []
        for _ in range(2):
            turn = turns.open()
            known.append(np.isfinite(turn.situation.everyone.get("best_accuracy", np.zeros(0))).sum())
            actions = {
                agent: turns.control.suggest("random", agent, turn.situation, {}, generator(1, agent))
                for agent in turn.observations
            }
            assert set(actions) == {f"client_{client}" for client in turn.situation.clients}
            rewards.append((turn.situation, turns.act(actions)))
        records = turns.rounds.record
        costs = {call.client: call for call in call_rows(records.calls)}
    seen = rewards[0][1].report
    _, played = rewards[1]
    b = np.mean(seen.calls.metrics["best_accuracy"][seen.calls.completed])
    for client, call in costs.items():
        assert {"stage1.width", "stage1.kernel", "accuracy", "batch_size", "memory_mib", "budget_mib"} <= set(
            call.metrics
        )
        assert call.metrics["memory_mib"] <= call.metrics["budget_mib"] or not call.metrics["batch_size"]
        assert ("conflict" in call.metrics) == bool(call.metrics["batch_size"])
        late = call.total_s - min(other.total_s for other in costs.values())
        conflicts = call.metrics.get("conflict", 0.0)
        expected = call.metrics["accuracy"] - b - 0.001 * late - 0.1 * conflicts
        assert played.rewards[f"client_{client}"] == pytest.approx(expected)
        spec = method.spec(
            index(method, stage1_width=call.metrics["stage1.width"], stage1_kernel=call.metrics["stage1.kernel"])
        )
        assert call.bytes_down == 4 * sum(int(np.prod(s)) for s in shapes(spec).values()) + 8 * 17
    assert played.metrics["agents/architectures"] >= 1
    assert known == [0, len(seen.calls)]  # as it was when each round began


def test_timed_rounds_take_as_long_as_real_ones():
    config = searching("rounds=2", "agents.policy=none", "method.memory_gib=[0.001,0.003]", "method.least_batch=2")
    with Federation(config) as federation:
        turns, timed = full_turns(federation), TimedRounds(federation.world)
        for _ in range(2):
            turn = turns.open()
            acted = {
                agent: turns.control.suggest("random", agent, turn.situation, {}, generator(2, agent))
                for agent in turn.observations
            }
            decided = turns.control.decide(turn.situation, acted)
            played, expected = turns.act(acted).report, timed.play(decided)
            for name in ("total_s", "bytes_down", "bytes_up", "flops"):
                np.testing.assert_array_equal(getattr(played.calls, name), getattr(expected.calls, name))
            assert played.round_s == expected.round_s


def test_personal_models_are_what_was_trained_and_else_the_global_one_which_is_the_fixed_architecture():
    config = searching("rounds=1", "agents.policy=none", "method.fixed=smallest", "clients.participation=0.25")
    with Federation(config) as federation:
        (record,) = federation
        world, snapshot = federation.world, federation.rounds.snapshot()
    method, called = world.algorithm, {call.client for call in call_rows(record.calls)}
    assert {c for c, state in snapshot.clients.items() if state.subnet is not None} == called
    for client, state in snapshot.clients.items():
        assert record.scores["PM"].clients[client] == pytest.approx(state.best_accuracy)
    asked = next(iter(set(range(8)) - called))
    spec, w = method.spec(method.supernet.space.smallest()), snapshot.server.w
    steps = method.client_evaluate(world.infos[asked], None, {"GM": w})
    assert_asks(next(steps), Recalibrate(spec, extract(w, spec), method.config.batch_size, 8))
    params = extract(w, spec)
    assert_asks(steps.send(Recalibrated(params)), Evaluate(spec, params))
    with pytest.raises(StopIteration) as end:
        steps.send("the global model")
    assert end.value.value == {"GM": "the global model", "PM": "the global model"}


def assert_asks(found, expected):
    """Two requests are equal, values included."""
    assert type(found) is type(expected)
    assert fingerprint(found.params) == fingerprint(expected.params)
    assert replace(found, params={}) == replace(expected, params={})


@pytest.mark.parametrize(("right", "served"), [((5, 4), "own"), ((5, 5), "own"), ((4, 5), "slice")])
def test_after_a_call_that_did_not_fit_the_better_of_the_last_subnet_and_the_slice_is_served(right, served):
    method = method_of(recalibration_batches=3, batch_size=16)
    w, largest, kept = method.init_global(0).w, method.spec(method.fixed), method.supernet.space.smallest()
    spec = method.spec(kept)
    own, models = extract(method.init_global(1).w, spec), {}
    models["own"], models["slice"] = own, {name: value + 1 for name, value in extract(w, spec).items()}
    steps = method.client_evaluate(info_of(0), Personal(own, kept, 0.5, passed_over=True), {"GM": w})
    whole = extract(w, largest)
    assert_asks(next(steps), Recalibrate(largest, whole, 16, 3))
    assert_asks(steps.send(Recalibrated(whole)), Evaluate(largest, whole))
    assert_asks(steps.send("GM"), Recalibrate(spec, extract(w, spec), 16, 3))
    assert_asks(steps.send(Recalibrated(models["slice"])), Evaluate(spec, own, "validation"))
    assert_asks(steps.send(Evaluation(right[0], 9, 1.0)), Evaluate(spec, models["slice"], "validation"))
    assert_asks(steps.send(Evaluation(right[1], 9, 1.0)), Evaluate(spec, models[served]))
    with pytest.raises(StopIteration) as end:
        steps.send("PM")
    assert end.value.value == {"GM": "GM", "PM": "PM"}


def test_after_a_call_that_fitted_nothing_is_compared():
    method = method_of(recalibration_batches=0)
    w = method.init_global(0).w
    own = extract(w, method.spec(method.fixed))
    steps = method.client_evaluate(info_of(0), Personal(own, method.fixed, 0.5), {"GM": w})
    assert_asks(next(steps), Evaluate(method.spec(method.fixed), own))
    assert_asks(steps.send("GM"), Evaluate(method.spec(method.fixed), own))
