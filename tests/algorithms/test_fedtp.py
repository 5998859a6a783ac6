"""FedTP: the hypernetwork and its gradient against autograd, FedAvg on the rest, and what clients are served."""

import numpy as np
import pytest
import torch

from strata.algorithms.fedtp import FedTP, FedTPConfig, Up, generate, gradients, init_hypernetwork
from strata.engine.build import build_world
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.messages import Received
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.params import weighted_mean
from strata.engine.tree import count_bytes
from tests.helpers.calls import call_rows
from tests.helpers.moments import AT
from tests.helpers.small import small

THETA = {"x.attention.q.weight": (3, 3), "x.attention.q.bias": (3,), "x.attention.v.weight": (3, 3)}


@pytest.fixture(scope="module")
def phi():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theta = {name: torch.randn(shape) for name, shape in THETA.items()}
        return init_hypernetwork(theta, embedding=4, hidden=5, spread=0.3, seed=1)


@pytest.fixture(scope="module")
def world():
    return build_world(small("fedtp", "method.spread=0.1"))


def drawn(seed, shapes):
    rng = np.random.default_rng(seed)
    return {name: torch.from_numpy(rng.normal(size=shape).astype("f4")) for name, shape in shapes.items()}


def test_what_is_generated_is_one_linear_map_per_projection(phi):
    e = drawn(0, {"e": (4,)})["e"]
    hidden = np.maximum(phi["A"].numpy() @ e.numpy() + phi["a"].numpy(), 0)
    found = generate(phi, e)
    assert set(found) == set(THETA)
    for name, shape in THETA.items():
        weight, bias = phi[f"{name}/weight"].numpy().reshape(-1, 5), phi[f"{name}/bias"].numpy()
        np.testing.assert_allclose(found[name].numpy(), (weight @ hidden).reshape(shape) + bias, atol=1e-6)


def test_the_gradient_is_that_of_half_the_squared_distance(phi):
    """By finite differences, in float64, of every number in φ and e."""
    e, trained = drawn(0, {"e": (4,)})["e"].double(), {k: v.double() for k, v in drawn(1, THETA).items()}
    phi = {name: value.double() for name, value in phi.items()}
    by_phi, by_e = gradients(phi, e, trained)

    def loss(phi, e):
        return sum(float(((theta - trained[name]) ** 2).sum()) / 2 for name, theta in generate(phi, e).items())

    def difference(name, index, by=1e-6):
        ends = []
        for sign in (1, -1):
            moved = {**phi, "e": e}
            moved[name] = moved[name].clone()
            moved[name].view(-1)[index] += sign * by
            ends.append(loss({key: value for key, value in moved.items() if key != "e"}, moved["e"]))
        return (ends[0] - ends[1]) / (2 * by)

    for name, gradient in {**by_phi, "e": by_e}.items():
        expected = [difference(name, index) for index in range(gradient.numel())]
        np.testing.assert_allclose(gradient.reshape(-1).numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)
        assert abs(gradient).max() > 1e-3, name


def ups_of(method, g, infos, shift):
    ups = []
    for number, (info, n) in enumerate(zip(infos, (10, 30), strict=True)):
        down = method.to_client(g, info, method.default_assignment(info))
        theta = {name: value + shift * (number + 1) for name, value in down.theta.items()}
        ups.append(Received(info.id, n, Up({name: value + number for name, value in down.xi.items()}, theta)))
    return ups


def test_the_server_averages_the_rest_and_steps_down_the_gradient(world):
    method, infos = world.algorithm, world.infos[2:4]
    g = method.init_global(5)
    ups = ups_of(method, g, infos, 0.01)
    after = method.global_step(g, ups, AT)
    for name, value in weighted_mean([up.message.xi for up in ups], [10, 30]).items():
        assert torch.equal(after.xi[name], value)
    eta, parts = method.config.server_lr, {}
    for up, share in zip(ups, (0.25, 0.75), strict=True):
        e = method.embedding(g, up.sender)
        by_phi, by_e = gradients(g.phi, e, up.message.theta)
        parts[up.sender] = share, by_phi
        torch.testing.assert_close(after.embeddings[up.sender], e - eta * share * by_e)
    for name, value in g.phi.items():
        expected = value - eta * sum(share * by_phi[name] for share, by_phi in parts.values())
        torch.testing.assert_close(after.phi[name], expected)
    assert set(after.embeddings) == {2, 3}
    assert not g.embeddings


def test_with_zero_weights_the_first_round_is_fedavgs():
    """Then θ is the bias alone, whose gradient is θ − θ'; a step of 1 puts it at the weighted mean of the θ'."""
    config = FedTPConfig(spread=0.0, server_lr=1.0)
    world = build_world(small("fedtp"))
    method = FedTP(config, world.algorithm.model)
    g = method.init_global(5)
    fresh = init_params(method.model, 5)
    ups = ups_of(method, g, world.infos[:2], 0.01)
    start = method.to_client(g, world.infos[0], method.default_assignment(world.infos[0]))
    assert all(torch.equal({**start.xi, **start.theta}[name], value) for name, value in fresh.items())
    after = method.global_step(g, ups, AT)
    mean = weighted_mean([up.message.theta for up in ups], [10, 30])
    for name, value in mean.items():
        torch.testing.assert_close(after.phi[f"{name}/bias"], value)


def test_clients_get_projections_of_their_own_and_pay_for_them(world):
    method = world.algorithm
    g = method.init_global(5)
    downs = [method.to_client(g, info, method.default_assignment(info)) for info in world.infos[:2]]
    again = method.to_client(g, world.infos[0], method.default_assignment(world.infos[0]))
    assert all(torch.equal(again.theta[name], value) for name, value in downs[0].theta.items())
    assert all(not torch.equal(downs[1].theta[name], value) for name, value in downs[0].theta.items())
    assert all(any(f".{which}." in name for which in "qkv") for name in downs[0].theta)
    whole = init_params(method.model, 0)
    assert set(downs[0].theta) | set(downs[0].xi) == set(whole)
    assert count_bytes(downs[0]) == sum(value.nbytes for value in whole.values()) + 16


def test_a_real_run_learns_embeddings_and_serves_clients_what_they_trained():
    with Federation(small("fedtp", "rounds=2", "clients.participation=0.5", "data.limit=300")) as federation:
        records = list(federation)
        snapshot = federation.rounds.snapshot()
    called = {call.client for record in records for call in call_rows(record.calls)}
    assert set(snapshot.server.embeddings) == called
    assert called < set(range(8))
    accuracies = records[-1].scores
    for client in set(range(8)) - called:
        assert accuracies["PM"].clients[client] == accuracies["GM"].clients[client]
    assert accuracies["PM"].accuracy > accuracies["GM"].accuracy


def test_a_model_without_attention_is_refused():
    with pytest.raises(ConfigError, match=r"FedTP generates the projections.*model=vit_small"):
        FedTP(FedTPConfig(), ModelSpec("mclr", (1, 28, 28), 10))
