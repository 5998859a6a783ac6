"""PerFedRLNAS: fusion and conflict against numpy, the memory rule, rewards by hand, FedAvg as its limit, the search.

Parts that the search rests on are tested elsewhere: slices in tests/engine/test_supernet_sharing.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.driver import Driver
from agents.learnt import LearntPolicies
from algorithms._searching import SearchControl, written
from algorithms.perfedrlnas import GIB, PerFedRLNAS, PerFedRLNASConfig, Personal, Up, conflict, fit
from engine.agents_config import AgentsConfig
from engine.algorithm import ClientInfo, Context, Received
from engine.control import Report, Situation
from engine.errors import ConfigError
from engine.federation import Federation, build_world
from engine.messages import count_bytes
from engine.models import ModelSpec
from engine.requests import AdamW, Evaluate, Evaluation, Trained
from engine.seeding import generator
from engine.supernets.cost import cost
from engine.supernets.sharing import extract
from engine.supernets.subnet import SubnetSpec, shapes
from engine.timing import TimingRounds
from envs.multi_agent import FederatedRoundsEnv
from envs.opening import control_of, full_turns
from envs.turns import Turns
from tests.small import small

# Two widths and two kernels to choose from: 4 architectures.
FOUR = {"stage2.depth": [1], "stage3.depth": [1], "stage3.width": [24], "stage2.kernel": [3], "stage3.kernel": [3]}
FOUR |= {"stage2.width": [16], "stage2.expansion": [2], "stage3.expansion": [2], "stage1.depth": [1]}
ONE = {**FOUR, "stage1.width": [16], "stage1.kernel": [5]}


def model(options, architecture="largest"):
    text = ", ".join(f"{slot}: {values}" for slot, values in options.items())
    return f"model={{name: mobilenetv3_small, architecture: {architecture!r}, options: {{{text}}}}}"


def method_of(options=FOUR, architecture="largest", **settings):
    slots = tuple((slot, tuple(values)) for slot, values in options.items())
    spec = ModelSpec("mobilenetv3_small", (1, 28, 28), 10, (("architecture", architecture), ("slots", slots)))
    return PerFedRLNAS(PerFedRLNASConfig(**settings), spec)


def info_of(client, samples=40):
    return ClientInfo(client, None, samples, 10, np.full(10, samples // 10), "laptop", 1e9)


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
    after = method.global_step(g, ups)
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


def test_conflict_counts_tensors_that_point_away():
    change = {
        name: torch.tensor(values) for name, values in {"a": [1.0, 0.0], "b": [1.0, 1.0], "c": [0.0, 2.0]}.items()
    }
    aggregate = {
        "a": torch.tensor([-1.0, 9.0, 9.0]),
        "b": torch.tensor([-1.0, 2.0]),
        "c": torch.zeros(2),
        "d": change["a"],
    }
    assert conflict(change, aggregate) == pytest.approx(1 / 3)  # b agrees on the whole, c is orthogonal


def test_what_did_not_fit_is_left_out_of_the_fusion():
    method = method_of()
    g = method.init_global(0)
    ups = uploads(method, g, [(method.fixed, 10, 1.0), (method.fixed, 30, 1.0)])
    empty = replace(ups[1], message=Up({}, 0.0, 1, 0))
    after = method.global_step(g, [ups[0], empty])
    assert all(torch.equal(after.w[name], value) for name, value in ups[0].message.subnet.items())
    assert method.assess(g, [ups[0], empty], after) == {0: {"conflict": 0.0}}
    assert method.global_step(g, [empty]) is g


# --- client: memory, batch, what travels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (1000, 64),
        (330, 32),
        (320, 32),
        (319, 16),
        (160, 16),
        (90, 8),
        (80, 8),
        (79, 0),
        (430, 32),
        (640, 64),
        (600, 32),
    ],
)
def test_the_batch_rule(budget, expected):
    """A step takes 10 a sample: from 32 on, halved down to 8 while over, doubled up to 64 while below 75 %."""
    assert fit(lambda batch: 10 * batch, budget, start=32, least=8, most=64) == expected


def test_doubling_waits_for_room():
    # 320 is 80 % of 400 and 50 % of 640, where twice as much fits as well.
    step = {8: 80, 16: 160, 32: 320, 64: 390}.__getitem__
    assert fit(step, 400, 32, 8, 64) == 32
    assert fit(step, 440, 32, 8, 64) == 64


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
    assert result.state == before
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
    assert (asked.model, asked.optimizer, asked.epochs) == (spec, AdamW(pytest.approx(0.05), 0.0), 1)
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


# --- rewards --------------------------------------------------------------------------------------------------------


def report_of(clients, seconds, completed=None, **metrics):
    zeros = np.zeros(len(clients))
    done = np.ones(len(clients), bool) if completed is None else np.array(completed)
    columns = {name: np.array(values) for name, values in metrics.items()}
    return Report(
        np.array(clients), done, ~done, zeros, zeros, np.array(seconds), zeros, zeros, zeros, zeros, 9.0, 0.0, columns
    )


def rewards_of(report, best, **settings):
    method = method_of(**settings)
    control = SearchControl(method, [info_of(client) for client in range(5)], None, 3)
    unknown = np.full(len(report.clients), np.nan)
    everyone = {} if best is None else {"best_accuracy": np.array(best)}
    now = Situation(4, list(report.clients), *[unknown] * 4, everyone=everyone)
    return control.rewards(now, {}, report)


def test_the_reward_by_hand():
    """0.01 a second over the fastest, 0.2 for conflict; the clients seen had 0.2, 0.4 and 0.9 at best."""
    nan = float("nan")
    report = report_of([0, 1, 3], [5.0, 3.0, 8.0], accuracy=[0.6, 0.3, 0.0], conflict=[0.25, 0.0, nan])
    found = rewards_of(report, [0.2, 0.4, nan, 0.9, nan], lambda_time=0.01, lambda_neg=0.2)
    assert found == {
        "client_0": pytest.approx(0.6 - 0.5 - 0.02 - 0.05),
        "client_1": pytest.approx(0.3 - 0.5),
        "client_3": pytest.approx(0.0 - 0.5 - 0.05),  # over its budget: wrong everywhere, and no delta to conflict
    }


def test_before_anybody_was_seen_the_baseline_is_the_mean_that_came_in():
    report = report_of([1, 2], [1.0, 1.0], accuracy=[0.8, 0.4], conflict=[0.0, 0.0])
    assert rewards_of(report, None) == {"client_1": pytest.approx(0.2), "client_2": pytest.approx(-0.2)}


def test_who_was_lost_is_neither_paid_nor_the_fastest():
    report = report_of([1, 2], [1.0, 4.0], [False, True], accuracy=[0.9, 0.4], conflict=[0.0, 0.5])
    assert rewards_of(report, [0.4] * 5, lambda_neg=0.2) == {"client_2": pytest.approx(-0.1)}
    nobody = report_of([1], [1.0], [False], accuracy=[0.9], conflict=[0.0])
    assert rewards_of(nobody, [0.4] * 5) == {}


def test_a_timed_round_pays_latency_alone():
    assert rewards_of(report_of([1, 2], [1.0, 4.0]), None, lambda_time=0.01) == {
        "client_1": pytest.approx(0.0),
        "client_2": pytest.approx(-0.03),
    }


# --- rounds ---------------------------------------------------------------------------------------------------------


def test_one_option_per_slot_is_fedavg_to_the_bit():
    sizes = ("data.limit=240", "partition=quantity", "partition.sizes=powerlaw")
    shared = (model(ONE), *sizes, "rounds=2", "method.batch_size=16", "method.epochs=1", "method.lr=0.05")
    ours = ("method.optimizer=sgd", "method.weight_decay=0", "method.memory_gib=[]", "method.label_smoothing=0")
    ends = {}
    for method, more in (("perfedrlnas", ours), ("fedavg", ())):
        with Federation(small(method, *shared, *more)) as federation:
            records = list(federation)
            ends[method] = federation._backend.snapshot().server.w, records
    (w, records), (expected, others) = ends.values()
    assert w.keys() == expected.keys()
    assert all(torch.equal(w[name], value) for name, value in expected.items())
    assert [r.scores["GM"] for r in records] == [r.scores["GM"] for r in others]


def searching(*words):
    return small("perfedrlnas", model(FOUR), "data.limit=240", "clients.participation=0.5", *words)


def test_rounds_report_what_was_chosen_and_what_it_took():
    config = searching("rounds=2", "method.memory_gib=[0.002,0.004]", "method.least_batch=2", "agents.policy=none")
    with Federation(config) as federation:
        turns = full_turns(federation)
        method, rewards = federation.world.algorithm, []
        for _ in range(2):
            turn = turns.open()
            actions = {
                agent: turns.control.suggest("random", agent, turn.situation, {}, generator(1, agent))
                for agent in turn.observations
            }
            assert set(actions) == {f"client_{client}" for client in turn.situation.clients}
            rewards.append((turn.situation, turns.act(actions)))
        records = turns.rounds.record
        costs = {call.client: call for call in records.calls}
    seen = rewards[0][1].report
    situation, played = rewards[1]
    b = np.mean(seen.metrics["best_accuracy"][seen.completed])
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
    assert np.isfinite(situation.everyone["best_accuracy"]).sum() == len(seen.clients)


def test_timed_rounds_take_as_long_as_real_ones():
    config = searching("rounds=2", "agents.policy=none", "method.memory_gib=[0.001,0.003]", "method.least_batch=2")
    with Federation(config) as federation:
        turns, timed = full_turns(federation), TimingRounds(federation.world)
        for _ in range(2):
            turn = turns.open()
            acted = {
                agent: turns.control.suggest("random", agent, turn.situation, {}, generator(2, agent))
                for agent in turn.observations
            }
            decided = turns.control.decide(turn.situation, acted)
            played, expected = turns.act(acted).report, timed.play(decided)
            for name in ("total_s", "bytes_down", "bytes_up", "flops"):
                np.testing.assert_array_equal(getattr(played, name), getattr(expected, name))
            assert played.round_s == expected.round_s


def test_personal_models_are_what_was_trained_and_else_the_global_one_which_is_the_fixed_architecture():
    config = searching("rounds=1", "agents.policy=none", "method.fixed=smallest", "clients.participation=0.25")
    with Federation(config) as federation:
        (record,) = federation
        world, snapshot = federation.world, federation._backend.snapshot()
    method, called = world.algorithm, {call.client for call in record.calls}
    assert {c for c, state in snapshot.clients.items() if state.subnet is not None} == called
    for client, state in snapshot.clients.items():
        assert record.scores["PM"].clients[client] == pytest.approx(state.best_accuracy)
    asked = next(iter(set(range(8)) - called))
    steps = method.client_evaluate(world.infos[asked], None, {"GM": snapshot.server.w})
    request = next(steps)
    assert request.model == method.spec(method.supernet.space.smallest())
    torch.testing.assert_close(request.params, extract(snapshot.server.w, request.model), rtol=0, atol=0)
    with pytest.raises(StopIteration) as end:
        steps.send("the global model")
    assert end.value.value == {"GM": "the global model", "PM": "the global model"}


# --- the search -----------------------------------------------------------------------------------------------------


class Toy:
    """Rounds in which client i's accuracy is 0.9 with its own best architecture, and less for every other choice."""

    def __init__(self, method, clients, invited):
        self.round, self._clients, self._invited = 0, clients, invited
        self._space, self.known = method.supernet.space, np.zeros(clients)
        self.best = [self._space.random(client) for client in range(clients)]

    def invite(self):
        drawn = generator(3, "cohort", self.round).choice(self._clients, self._invited, replace=False)
        return sorted(int(client) for client in drawn)

    def play(self, decisions):
        clients = np.array(sorted(decisions.clients))
        chosen = [self._space.named(decisions.clients[client]["architecture"]) for client in clients]
        free = sum(size > 1 for size in self._space.sizes)
        wrong = [
            sum(a != b for a, b in zip(one, self.best[c], strict=True)) for one, c in zip(chosen, clients, strict=True)
        ]
        accuracy = 0.9 * (1 - np.array(wrong) / free)
        self.known[clients] = np.maximum(self.known[clients], accuracy)
        self.round += 1
        best = self.known[clients].copy()
        return report_of(clients, np.ones(len(clients)), accuracy=accuracy, best_accuracy=best, conflict=best * 0)


def probabilities(policies, agent, architecture, sizes):
    logits = policies._learners["reinforce"].module[agent].unwrapped().logits.detach().split(list(sizes))
    return float(torch.stack([part.softmax(0)[i] for part, i in zip(logits, architecture, strict=True)]).prod())


def test_the_search_finds_the_best_architecture_of_every_client():
    clients, invited, rounds = 8, 4, 120
    method = method_of({**FOUR, "stage2.expansion": [2, 3, 4]})
    toy = Toy(method, clients, invited)
    control = SearchControl(method, [info_of(client) for client in range(clients)], None, invited)
    policies = LearntPolicies(control.agents, AgentsConfig(policy="rllib"), 0)
    driver = Driver(FederatedRoundsEnv({"turns": Turns(toy, control, clients), "rounds": 1}), policies)
    sizes = method.supernet.space.sizes

    def sure():
        return [probabilities(policies, f"client_{c}", best, sizes) for c, best in enumerate(toy.best)]

    start = sure()
    np.testing.assert_allclose(start, 1 / 12, rtol=1e-5)
    first = driver.run_round()
    stayed = [p == before for p, before in zip(sure(), start, strict=True)]
    assert stayed == [f"client_{c}" not in first.played.rewards for c in range(clients)]
    entropies = [first.metrics["agents/entropy"]]
    for _ in range(rounds):
        entropies.append(driver.run_round().metrics["agents/entropy"])
    assert entropies[0] == pytest.approx(np.log(12), rel=1e-5)
    assert entropies[-1] < 0.5
    assert len({method.supernet.space.values(best)["stage2.expansion"] for best in toy.best}) == 3
    assert min(sure()) >= 0.9


def test_who_is_paid_takes_adams_first_step_and_who_is_not_stays():
    """α_d ← Adam on r (softmax(α_d) − onehot(a_d)); a first step of Adam is lr · g / (|g| + ε), whatever its size."""
    control = SearchControl(method_of(), [info_of(client) for client in range(3)], None, 2)
    policies = LearntPolicies(control.agents, AgentsConfig(policy="rllib"), 0)
    sizes = list(control.agents["client_0"].action_space.nvec)

    def logits(agent):
        return policies._learners["reinforce"].module[agent].unwrapped().logits.detach().double().numpy().copy()

    acted = policies.act(1, None, {}, {agent: np.ones(1, np.float32) for agent in ("client_0", "client_1")})
    policies.learn(1, {"client_1": -0.3})
    expected = []
    for size, option in zip(sizes, acted["client_1"], strict=True):
        gradient = -0.3 * (np.full(size, 1 / size) - np.eye(size)[option])
        expected.append(-0.5 * gradient / (abs(gradient) + 1e-8))
    np.testing.assert_allclose(logits("client_1"), np.concatenate(expected), atol=1e-5)
    assert not logits("client_0").any()
    assert not logits("client_2").any()
    before = logits("client_1")
    policies.act(2, None, {}, {"client_0": np.ones(1, np.float32)})
    policies.learn(2, {"client_0": 1.0})
    assert logits("client_0").any()
    np.testing.assert_array_equal(logits("client_1"), before)
    policies.act(3, None, {}, {"client_0": np.ones(1, np.float32)})
    assert policies.learn(3, {}) == {}


def test_a_control_comes_with_one_agent_per_client():
    world = build_world(searching("agents.policy=none"))
    control = control_of(searching("agents.policy=none"), world)
    assert list(control.agents) == [f"client_{client}" for client in range(8)]
    assert {spec.learner for spec in control.agents.values()} == {"reinforce"}
    assert list(control.agents["client_0"].action_space.nvec) == list(world.algorithm.supernet.space.sizes)
