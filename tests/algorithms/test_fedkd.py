"""FedKD against numpy: its loss, its compression, and what clients hold."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from strata.algorithms import fedkd
from strata.engine.config.load import config_from_dict, load_config, to_dict
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.length import Length
from strata.engine.method.messages import Context, Received
from strata.engine.method.requests import Trained
from strata.engine.models.spec import Family
from strata.engine.options import check
from strata.engine.tree import count_bytes, fingerprint
from tests.helpers.arithmetic.families import MCLR, PAIR, SETTINGS, plain_backward, plain_logits, teach
from tests.helpers.arithmetic.linear import (
    INFO,
    ONE_STEP,
    arrays,
    assert_close,
    backward,
    cross_entropy,
    drive,
    error,
    forward,
    fresh,
    spec,
    step,
)
from tests.helpers.calls import call_rows
from tests.helpers.moments import AT
from tests.helpers.small import small


def test_fedkd_matches_numpy_and_the_change_goes_up():
    method = fedkd.FedKD(fedkd.FedKDConfig(**SETTINGS, energy_start=1.0, energy_end=1.0, energy_rounds=1), PAIR)
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


def test_the_hidden_loss_moves_both_models_and_the_bridge_between_their_features():
    whole = {"energy_start": 1.0, "energy_end": 1.0, "energy_rounds": 1}
    method = fedkd.FedKD(fedkd.FedKDConfig(**SETTINGS, **whole, hidden=0.8), Family((spec(), spec(width=2))))
    state, g = method.init_client(INFO, 3), fresh(spec(width=2), 4)
    result, work = drive(method, state, fedkd.Down(g, None, 0, ONE_STEP))
    wp, wg, bridge = arrays(state.p), arrays(g), state.w["weight"].double().numpy()
    assert bridge.shape == (4, 2)
    (h_p, z_p), (h_g, z_g) = forward(wp), forward(wg)
    tasks = cross_entropy(z_p) + cross_entropy(z_g)
    apart = h_g @ bridge.T - h_p
    by_gap = 0.8 * 2 * apart / apart.size / tasks
    assert_close(result.state.p, step(wp, backward(wp, error(z_p) + teach(z_p, z_g)[1] / tasks, -by_gap)), wp)
    after_g = step(wg, backward(wg, error(z_g) + teach(z_g, z_p)[1] / tasks, by_gap @ bridge))
    change = fedkd.restore(result.up.change, g)
    assert_close({name: g[name] + change[name] for name in g}, after_g, wg)
    assert_close(result.state.w, step({"weight": bridge}, {"weight": by_gap.T @ h_g}), {"weight": bridge})
    taught = teach(z_p, z_g)[0] + teach(z_g, z_p)[0] + 0.8 * (apart**2).mean()
    assert work.loss == pytest.approx(tasks + taught / tasks, rel=1e-5)
    assert count_bytes(result.up) == 4 * sum(value.numel() for value in g.values())  # the bridge stays where it is


def test_clients_trained_as_one_have_the_hidden_loss_of_each():
    prints = []
    for width in (1, 8):
        with Federation(small("fedkd", "method.hidden=1", f"training.batch_clients={width}")) as federation:
            list(federation)
            prints.append([state.w["weight"] for state in federation.rounds.snapshot().clients.values()])
    for alone, together in zip(*prints, strict=True):
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


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
    with pytest.raises(ConfigError, match="energy_rounds=None: expected a number outside of a run"):
        fedkd.FedKDConfig().energy(1)
    with pytest.raises(ConfigError, match=r"energy_end=0.9 is out of range: expected ≥ method.energy_start = 0.95"):
        check(fedkd.FedKDConfig(energy_end=0.9), "method.")


def test_the_energy_grows_over_the_rounds_of_the_run_unless_it_is_said_otherwise():
    plain, said = (load_config("fedkd", ["rounds=15", *more]) for more in ((), ("method.energy_rounds=7",)))
    assert [config.method.energy_rounds for config in (plain, said)] == [15, 7]
    assert [plain.method.energy(t) for t in (1, 8, 15)] == pytest.approx([0.95, 0.965, 0.98])
    prolonged = config_from_dict({**to_dict(plain), "rounds": 30}, "config.yaml")
    assert (prolonged.rounds, prolonged.method.energy_rounds) == (30, 15)
    with pytest.raises(ConfigError, match=r"method.energy_rounds=0 is out of range: expected ≥ 1"):
        load_config("fedkd", ["method.energy_rounds=0"])


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
            server, clients = (snapshot := federation.rounds.snapshot()).server, snapshot.clients
            assert server.version == record.round
            assert set(server.holders) == {call.client for call in call_rows(record.calls)}
            for client in server.holders:
                state = clients[client]
                now = fedkd.add(state.g, fedkd.restore(server.last, state.g))
                assert fingerprint(now) == fingerprint(server.g)
            sent.append({call.client: call.bytes_down for call in call_rows(record.calls)})
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
    method = fedkd.FedKD(fedkd.FedKDConfig(**SETTINGS, energy_rounds=100), PAIR)
    ups = [
        Received(c, n, fedkd.Up(fedkd.Factored({}, {"w": torch.tensor([v])})))
        for c, n, v in ((0, 10, 1.0), (1, 30, 5.0))
    ]
    after = method.global_step(fedkd.Global({"w": torch.tensor([0.5])}, 2), ups, AT)
    assert after.g["w"].tolist() == [4.5]
    assert (after.version, after.holders) == (3, (0, 1))
