"""Standalone, LG-FedAvg, FML, FedKD and FedProto against numpy."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from strata.algorithms import fedkd, fedproto, fml, lg_fedavg, standalone
from strata.engine.build import build_world
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.length import Length
from strata.engine.method.messages import Context, Received
from strata.engine.method.requests import Trained
from strata.engine.models.base import init_params, parameter_count
from strata.engine.models.spec import Family, ModelSpec
from strata.engine.options import check
from strata.engine.tree import count_bytes, fingerprint
from tests.helpers.linear import (
    INFO,
    LR,
    ONE_STEP,
    ROWS,
    WORK,
    D,
    F,
    K,
    N,
    X,
    Y,
    arrays,
    assert_close,
    backward,
    cross_entropy,
    drive,
    error,
    evaluate,
    forward,
    fresh,
    linear,
    softmax,
    spec,
    step,
)
from tests.helpers.small import small

METHODS = ["standalone", "lg_fedavg", "pfedlora", "fml", "fedkd", "fedproto"]
MCLR = ModelSpec("mclr", (D,), K)  # 18 numbers, fewer than the linear model's 39: the smallest of the two
PAIR = Family((spec(), MCLR))
SETTINGS = {"lr": LR, "epochs": 0, "steps": 1, "batch_size": 100}


def plain_logits(w):
    return X @ w["head.weight"].T + w["head.bias"]


def plain_backward(d):
    return {"head.weight": d.T @ X, "head.bias": d.sum(0)}


# Standalone


def test_standalone_descends_alone_and_sends_nothing():
    method = standalone.Standalone(standalone.StandaloneConfig(**SETTINGS), spec())
    omega = fresh(spec())
    result, _ = drive(method, standalone.Private(omega), standalone.Down(ONE_STEP))
    w = arrays(omega)
    assert_close(result.state.omega, step(w, backward(w, error(forward(w)[1]))), w)
    assert count_bytes(result.up) == 0


# LG-FedAvg


def test_lg_fedavg_trains_its_features_under_the_received_head_and_uploads_the_head():
    method = lg_fedavg.LgFedAvg(lg_fedavg.LgFedAvgConfig(**SETTINGS), spec())
    own, g = fresh(spec()), method.init_global(9)
    result, _ = drive(method, lg_fedavg.Private(own), method.to_client(g, INFO, WORK))
    w = arrays({**own, **g.h})
    assert set(g.h) == {"head.weight", "head.bias"}
    assert not np.allclose(w["head.weight"], own["head.weight"])
    expected = step(w, backward(w, error(forward(w)[1])))
    assert_close(result.state.model, expected, w)
    assert_close(result.up.h, {name: expected[name] for name in g.h})
    assert set(result.up.h) == set(g.h)
    assert count_bytes(result.up) == 4 * (F * K + K)


def test_lg_fedavg_weights_heads_by_samples():
    method = lg_fedavg.LgFedAvg(lg_fedavg.LgFedAvgConfig(**SETTINGS), spec())
    ups = [Received(c, n, lg_fedavg.Up({"head.bias": torch.tensor([v])})) for c, n, v in ((0, 10, 1.0), (1, 30, 5.0))]
    assert method.global_step(None, ups).h["head.bias"].tolist() == [(10 * 1 + 30 * 5) / 40]


def test_lg_fedavg_refuses_heads_that_differ():
    deeper = ModelSpec(f"{__name__}:deeper", (D,), K)
    with pytest.raises(ConfigError, match="shares the head"):
        lg_fedavg.LgFedAvg(lg_fedavg.LgFedAvgConfig(), Family((spec(), deeper)))


def deeper(input_shape, classes):
    module = linear(input_shape, classes)
    module.head = torch.nn.Sequential(torch.nn.Linear(F, 6), torch.nn.Linear(6, classes))
    return module


# FML and FedKD


def teach(z_student, z_teacher):
    """KL(teacher ‖ student), and its gradient by the student's logits."""
    p, q = softmax(z_teacher), softmax(z_student)
    return (p * (np.log(p) - np.log(q))).sum(1).mean(), (q - p) / len(p)


def test_fml_matches_numpy():
    alpha, beta = 0.3, 0.8
    method = fml.FML(fml.FMLConfig(**SETTINGS, alpha=alpha, beta=beta), PAIR)
    assert method.shared == MCLR
    p, g = fresh(spec()), fresh(MCLR, 4)
    result, _ = drive(method, fml.Private(p), fml.Down(g, ONE_STEP))
    wp, wg = arrays(p), arrays(g)
    zp, zg = forward(wp)[1], plain_logits(wg)
    d_p = alpha * error(zp) + (1 - alpha) * teach(zp, zg)[1]
    d_g = beta * error(zg) + (1 - beta) * teach(zg, zp)[1]
    assert_close(result.state.p, step(wp, backward(wp, d_p)), wp)
    assert_close(result.up.g, step(wg, plain_backward(d_g)), wg)
    assert count_bytes(result.up) == 4 * parameter_count(MCLR)


def test_fml_loss_is_both_models():
    method = fml.FML(fml.FMLConfig(**SETTINGS, alpha=0.3, beta=0.8), PAIR)
    p, g = fresh(spec()), fresh(MCLR, 4)
    _, work = drive(method, fml.Private(p), fml.Down(g, ONE_STEP))
    zp, zg = forward(arrays(p))[1], plain_logits(arrays(g))
    loss_p = 0.3 * cross_entropy(zp) + 0.7 * teach(zp, zg)[0]
    loss_g = 0.8 * cross_entropy(zg) + 0.2 * teach(zg, zp)[0]
    assert work.loss == pytest.approx(loss_p + loss_g, rel=1e-5)


def test_the_shared_architecture_is_the_smallest_or_the_one_named():
    assert fml.FML(fml.FMLConfig(shared=0), PAIR).shared == spec()
    assert fedkd.FedKD(fedkd.FedKDConfig(shared=1), PAIR).shared == MCLR
    with pytest.raises(ConfigError, match=r"method.shared=2 is out of range: the family has 2"):
        fml.FML(fml.FMLConfig(shared=2), PAIR)


def test_fml_weights_the_shared_model_by_samples():
    method = fml.FML(fml.FMLConfig(**SETTINGS), PAIR)
    ups = [Received(c, n, fml.Up({"w": torch.tensor([v])})) for c, n, v in ((0, 10, 1.0), (1, 30, 5.0))]
    assert method.global_step(None, ups).g["w"].tolist() == [4.0]


def test_fedkd_matches_numpy_and_the_change_goes_up():
    method = fedkd.FedKD(fedkd.FedKDConfig(**SETTINGS, energy_start=1.0, energy_end=1.0), PAIR)
    p, g = fresh(spec()), fresh(MCLR, 4)
    result, work = drive(method, fedkd.Private(p), fedkd.Down(g, None, 0, ONE_STEP))
    wp, wg = arrays(p), arrays(g)
    zp, zg = forward(wp)[1], plain_logits(wg)
    tasks = cross_entropy(zp) + cross_entropy(zg)
    expected_g = step(wg, plain_backward(error(zg) + teach(zg, zp)[1] / tasks))
    assert_close(result.state.p, step(wp, backward(wp, error(zp) + teach(zp, zg)[1] / tasks)), wp)
    change = fedkd.restore(result.up.change, g)
    assert_close({n: g[n] + change[n] for n in g}, expected_g, wg)
    assert work.loss == pytest.approx(tasks + (teach(zp, zg)[0] + teach(zg, zp)[0]) / tasks, rel=1e-5)
    assert fingerprint(result.state.g) == fingerprint(g)


@pytest.mark.parametrize(("energy", "rank"), [(0.95, 3), (0.98, 4), (0.6, 1), (0.7, 2), (1.0, 6)])
def test_truncation_keeps_the_energy_with_the_smallest_rank(energy, rank):
    # σ² = 64, 16, 16, 2, 1, 1: Σ = 100, so that the first r keep 0.64, 0.80, 0.96, 0.98, 0.99, 1 of the energy.
    squares = np.array([64, 16, 16, 2, 1, 1.0])
    if energy == 0.98:
        squares = np.array([64, 16, 16, 2.5, 0.9, 0.6])  # 0.985, away from where rounding decides
    left, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 6)))
    right, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 6)))
    matrix = (left * np.sqrt(squares)) @ right.T
    u, v = fedkd.truncate(torch.from_numpy(matrix).float(), energy if energy < 1 else 1 - 1e-9)
    assert (u.shape, v.shape) == ((20, rank), (rank, 9))
    lost = ((matrix - (u @ v).double().numpy()) ** 2).sum()
    assert lost == pytest.approx(squares[rank:].sum(), abs=1e-4)
    assert lost <= (1 - energy) * squares.sum() + 1e-4
    assert squares[rank - 1 :].sum() > (1 - energy) * squares.sum()  # one less would lose too much


def test_what_factors_would_enlarge_and_vectors_travel_whole():
    draw = torch.Generator().manual_seed(0)
    low = torch.randn(20, 1, generator=draw) @ torch.randn(1, 18, generator=draw)
    change = {
        "low": low.reshape(20, 2, 3, 3),  # a convolution's kernels
        "full": torch.randn(20, 18, generator=draw),
        "bias": torch.ones(20),
        "none": torch.zeros(20, 18),
    }
    sent = fedkd.compress(change, 0.98)
    assert set(sent.factors) == {"low", "none"}
    assert set(sent.whole) == {"full", "bias"}
    assert count_bytes(sent) == 4 * (2 * (20 + 18) + 20 * 18 + 20)  # rank 1 twice, one matrix, one vector
    for name, value in fedkd.restore(sent, change).items():
        torch.testing.assert_close(value, change[name])


def test_the_energy_grows_over_the_rounds():
    config = fedkd.FedKDConfig(energy_start=0.95, energy_end=0.98, energy_rounds=4)
    assert [config.energy(t) for t in (1, 2, 3, 4, 5)] == pytest.approx([0.95, 0.96, 0.97, 0.98, 0.98])
    assert fedkd.FedKDConfig(energy_rounds=1).energy(1) == 0.95
    with pytest.raises(ConfigError, match=r"energy_end=0.9 is out of range: expected ≥ method.energy_start = 0.95"):
        check(fedkd.FedKDConfig(energy_end=0.9), "method.")


def test_fedkds_energy_follows_the_round():
    method = fedkd.FedKD(fedkd.FedKDConfig(**SETTINGS, energy_rounds=3), PAIR)
    steps = method.client_step(
        INFO, fedkd.Private(fresh(spec())), fedkd.Down(fresh(MCLR), None, 1, ONE_STEP), Context(2, 1, 0)
    )
    request = next(steps)
    with pytest.raises(StopIteration) as stop:
        steps.send(Trained(request.start, 0.0))
    assert stop.value.value.metrics["energy"] == pytest.approx(0.965)


def test_fedkd_clients_hold_what_the_server_holds_whoever_takes_part():
    sent = []
    with Federation(small("fedkd", "rounds=6", "clients.participation=0.5")) as federation:
        for record in federation:
            server, clients = (snapshot := federation._backend.snapshot()).server, snapshot.clients
            assert server.version == record.round
            assert set(server.holders) == {call.client for call in record.calls}
            for client in server.holders:
                state = clients[client]
                now = fedkd.add(state.g, fedkd.restore(server.last, state.g))
                assert fingerprint(now) == fingerprint(server.g)
            sent.append({call.client: call.bytes_down for call in record.calls})
    whole = 4 * sum(value.numel() for value in server.g.values()) + 3 * 8
    assert set(sent[0].values()) == {whole}
    for before, after in pairwise(sent):
        assert {client for client, size in after.items() if size == whole} == set(after) - set(before)
        assert all(size < whole / 2 for client, size in after.items() if client in before)


def test_a_client_that_has_the_change_already_does_not_apply_it_twice():
    g = {"w": torch.ones(2)}
    change = fedkd.Factored({}, {"w": torch.full((2,), 3.0)})
    down = fedkd.Down(None, change, 5, Length(1))
    assert fedkd.received(fedkd.Private({}, g, 4), down)["w"].tolist() == [4.0, 4.0]
    assert fedkd.received(fedkd.Private({}, g, 5), down)["w"].tolist() == [1.0, 1.0]
    assert fedkd.received(fedkd.Private({}, g, 1), fedkd.Down(g, None, 5, Length(1))) == g


def test_fedkd_weights_changes_by_samples():
    method = fedkd.FedKD(fedkd.FedKDConfig(**SETTINGS), PAIR)
    ups = [
        Received(c, n, fedkd.Up(fedkd.Factored({}, {"w": torch.tensor([v])})))
        for c, n, v in ((0, 10, 1.0), (1, 30, 5.0))
    ]
    after = method.global_step(fedkd.Global({"w": torch.tensor([0.5])}, 2), ups)
    assert after.g["w"].tolist() == [4.5]
    assert (after.version, after.holders) == (3, (0, 1))


# FedProto


def proto(**settings):
    return fedproto.FedProto(fedproto.FedProtoConfig(**SETTINGS, **settings), spec())


def some_prototypes(classes, seed=3):
    draw = torch.Generator().manual_seed(seed)
    return fedproto.Prototypes(torch.tensor(classes), torch.randn(len(classes), F, generator=draw))


def test_fedproto_is_pulled_to_known_prototypes_and_sends_class_means():
    lam, shared, omega = 0.7, some_prototypes([0, 2]), fresh(spec())
    result, _ = drive(proto(lam=lam), fedproto.Private(omega, shared), fedproto.Down(shared, ONE_STEP))
    w = arrays(omega)
    f, z = forward(w)
    d_f = np.zeros_like(f)
    for j, mean in zip(shared.classes.tolist(), shared.means.double().numpy(), strict=True):
        d_f[j == Y] = 2 * lam * (f[j == Y] - mean) / (N * F)  # of λ · mean over batch and features
    after = step(w, backward(w, error(z), d_f))
    assert_close(result.state.omega, after, w)
    f, _ = forward(after)
    assert result.up.prototypes.classes.tolist() == [0, 1, 2]
    means = np.stack([f[j == Y].mean(0) for j in range(K)])
    np.testing.assert_allclose(result.up.prototypes.means.numpy(), means, atol=1e-6)
    assert result.up.counts.tolist() == [(j == Y).sum() for j in range(K)]
    assert count_bytes(result.up) == K * F * 4 + K * 8 + K * 8


def test_a_client_sends_the_classes_it_has_and_pays_for_a_forward_pass():
    rows = ROWS[Y != 1]
    nothing, shared = proto().no_prototypes(), some_prototypes([1, 2])
    result, work = drive(proto(), fedproto.Private(fresh(spec()), nothing), fedproto.Down(shared, ONE_STEP), rows=rows)
    assert result.up.prototypes.classes.tolist() == [0, 2]
    assert result.state.prototypes.classes.tolist() == [0, 1, 2]  # it answers by the received one for class 1
    assert torch.equal(result.state.prototypes.means[1], shared.means[0])
    assert torch.equal(result.state.prototypes.means[2], result.up.prototypes.means[1])
    features, head = 2 * len(rows) * D * F, 2 * len(rows) * F * K
    training = 2 * features + 3 * head  # the inputs need no gradient, the features do
    assert work.flops == training + features


def test_global_prototypes_are_means_over_samples_and_stay_where_nobody_has_the_class():
    def up(client, classes, values, counts):
        means = torch.tensor(values)[:, None].expand(-1, F)
        message = fedproto.Up(fedproto.Prototypes(torch.tensor(classes), means), torch.tensor(counts))
        return Received(client, 1, message)

    before = fedproto.Global(fedproto.Prototypes(torch.tensor([1, 2]), torch.full((2, F), 7.0)))
    after = proto().global_step(before, [up(0, [0, 2], [1.0, 2.0], [3, 10]), up(1, [0], [5.0], [1])]).prototypes
    assert after.classes.tolist() == [0, 1, 2]
    assert after.means[:, 0].tolist() == [(3 * 1 + 1 * 5) / 4, 7.0, 2.0]


def test_the_answer_is_the_nearest_prototype_and_never_a_class_without_one():
    omega, known = fresh(spec()), some_prototypes([0, 1])
    answer = evaluate(proto(), fedproto.Private(omega, known))
    f, _ = forward(arrays(omega))
    distances = ((f[:, None] - known.means.double().numpy()) ** 2).mean(2)
    assert answer.correct == (distances.argmin(1) == Y).sum()
    logits = -np.concatenate([distances, distances.max(1, keepdims=True) + 1], 1)
    assert answer.loss_sum == pytest.approx(N * cross_entropy(logits), rel=1e-5)


def test_a_client_answers_by_its_own_prototypes_before_the_global_ones():
    own, shared = some_prototypes([0, 2], 1), some_prototypes([1, 2], 2)
    both = fedproto.overlaid(shared, own)
    assert both.classes.tolist() == [0, 1, 2]
    assert torch.equal(both.means, torch.stack([own.means[0], shared.means[0], own.means[1]]))


# All of them


@pytest.mark.parametrize("name", METHODS)
def test_clients_differ_in_architecture_and_start_from_the_same_models(name):
    world = build_world(small(name))
    sizes, prints = [], []
    for info in world.infos[:4]:
        model = world.algorithm.personal_model(world.algorithm.init_client(info, 5))
        sizes.append(sum(value.numel() for value in model.values()))
        prints.append(fingerprint(model))
    first, second = 784 * 32 + 32 + 32 * 10 + 10, 784 * 48 + 48 + 48 * 32 + 32 + 32 * 10 + 10
    assert sizes == [first, second, first, second]
    reference = build_world(small("standalone"))
    assert prints[0] == fingerprint(init_params(reference.algorithm.family.of(0), 5))
    assert world.algorithm.global_model(world.algorithm.init_global(1)) is None


@pytest.mark.parametrize("name", METHODS)
def test_a_single_architecture_is_a_family_of_one(name):
    words = ("model.family=[]", "model.name=mlp", "model.hidden=[16]", "rounds=1")
    with Federation(small(name, *words)) as federation:
        (record,) = federation
    assert set(record.scores) == {"PM"}


def test_methods_with_one_architecture_refuse_a_family():
    for word in ("model=cnn_five", "model.family=[mclr, dnn]"):
        with pytest.raises(ConfigError, match="fedavg gives every client the same architecture"):
            load_config("fedavg", [word])
    assert load_config("fedavg", ["model=cnn_five_3"]).model.name == "cnn_five_3"


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_in_the_same_bits(name, tmp_path):
    words = ("rounds=4", "clients.participation=0.5")
    with Federation(small(name, *words)) as whole:
        list(whole)
    with Federation(small(name, *words)) as first:
        first.run_round()
        first.run_round()
        path = first.save(tmp_path)
    with Federation(small(name, *words)) as second:
        second.restore(path)
        list(second)
    assert second.fingerprint() == whole.fingerprint() != first.fingerprint()
