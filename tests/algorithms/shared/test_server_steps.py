"""What servers make of the mean of their clients' models, against the papers' equations in numpy."""

import numpy as np
import pytest
import torch

from strata.algorithms.shared.server_steps import Averaged, AveragingConfig
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.options import check
from tests.helpers.arithmetic.cohorts import assert_close, descended, mean, played
from tests.helpers.arithmetic.linear import fresh, spec
from tests.helpers.small import HALF, rewind_and_replay, small

ADAPTIVE = ("adagrad", "adam", "yogi")


@pytest.mark.parametrize("server", ["momentum", *ADAPTIVE])
def test_a_server_begins_without_a_draw_of_the_global_generator(server):
    before = torch.get_rng_state()
    AveragingConfig(server=server).begun(spec(), fresh(spec()))
    assert torch.equal(torch.get_rng_state(), before)


def squares(server, v, d, beta2):
    if server == "adagrad":
        return v + d**2
    if server == "adam":
        return beta2 * v + (1 - beta2) * d**2
    return v - (1 - beta2) * d**2 * np.sign(v - d**2)


def in_numpy(run, server, lr, beta1, beta2, tau):
    """The global model after the last round, by algorithm 2 of the paper, or FedAvgM."""
    w = run.start
    m = {name: np.zeros_like(value) for name, value in w.items()}
    v = {name: np.full_like(value, tau**2) for name, value in w.items()}
    for cohort in run.cohorts:
        to = mean([descended(w, run.rows[client]) for client in cohort], run.sizes(cohort))
        for name in w:
            d = to[name] - w[name]
            if server == "momentum":
                m[name] = beta1 * m[name] + d
                w = {**w, name: w[name] + lr * m[name]}
            else:
                m[name] = beta1 * m[name] + (1 - beta1) * d
                v[name] = squares(server, v[name], d, beta2)
                w = {**w, name: w[name] + lr * m[name] / (np.sqrt(v[name]) + tau)}
    return w


@pytest.mark.parametrize(
    ("server", "lr", "beta1", "beta2", "tau"),
    [
        ("momentum", 0.7, 0.6, 0.0, 1.0),
        ("adagrad", 0.05, 0.3, 0.0, 0.01),
        ("adam", 0.05, 0.8, 0.9, 0.01),
        ("yogi", 0.05, 0.8, 0.9, 0.01),
    ],
)
def test_rounds_of_fedavg_under_a_server_that_steps(server, lr, beta1, beta2, tau):
    settings = (f"server={server}", f"server_lr={lr}", f"beta1={beta1}", f"beta2={beta2}", f"tau={tau}")
    run = played("fedavg", *(f"method.{setting}" for setting in settings))
    assert_close(run.end, in_numpy(run, server, lr, beta1, beta2, tau), run.start)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad", "fedavgm"])
def test_named_settings_have_the_papers_figures(name):
    config = load_config(name).method
    kept = 0.0 if name == "fedadagrad" else 0.9
    assert (config.kept, config.beta2, config.tau) == (kept, 0.99, 0.001)
    assert AveragingConfig(server=config.server).kept == kept
    assert config.adapts == (name != "fedavgm")
    assert name == f"fed{config.server}" or config.server == "momentum"


def test_the_server_of_fedavg_takes_a_part_of_the_way_to_the_mean():
    halfway, whole = (AveragingConfig(server_lr=lr) for lr in (0.5, 1.0))
    before, to = Averaged({"w": torch.zeros(2)}, {}, {}), {"w": torch.tensor([2.0, 4.0])}
    assert halfway.stepped(before, to).w["w"].tolist() == [1.0, 2.0]
    assert whole.stepped(before, to).w is to


def test_momentum_of_0_is_the_mean():
    plain, momentum = played("fedavg"), played("fedavg", "method.server=momentum", "method.beta1=0")
    assert_close(momentum.end, plain.end, plain.start)


@pytest.mark.parametrize("server", ["momentum", *ADAPTIVE])
def test_statistics_of_batch_norm_take_the_mean(server):
    config, w = AveragingConfig(server=server), fresh(spec("normed"))
    begun = config.begun(spec("normed"), w)
    to = {name: value + 1 for name, value in w.items()}
    after = config.stepped(begun, to).w
    still = {"features.1.running_mean", "features.1.running_var"}
    assert set(w) - set(begun.m) == still
    for name, value in after.items():
        assert torch.equal(value, to[name]) == (name in still or server == "momentum")


@pytest.mark.parametrize("words", [(), ("clients.mode=async", "clients.concurrency=3", "clients.buffer=2")])
def test_what_the_server_keeps_is_in_its_checkpoints(words, tmp_path):
    config = small("fedprox", "method.server=adam", "method.server_lr=0.01", *HALF, *words, "rounds=4")
    with Federation(config) as federation:
        rewind_and_replay(federation, tmp_path)
        assert all(value.abs().max() > 0 for value in federation.rounds.snapshot().server.m.values())


def test_a_momentum_of_the_mean_is_refused():
    with pytest.raises(ConfigError, match=r"beta1=0.5: a server that takes the mean keeps no mean of changes"):
        check(AveragingConfig(beta1=0.5))
