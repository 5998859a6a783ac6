"""A package of somebody's own: installed, its methods are run by name, checked, and held against plain torch.

# n samples of one client, F features, K classes
"""

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import strata
from strata.cluster.cli import main
from strata.engine import Params, flatten

HERE = Path(__file__).with_name("third_party")
METHODS = ("my_ditto", "my_fedadam", "my_dp_fedavg", "my_top_k", "my_per_fedavg", "my_scaffold", "my_server_tuned")
QUICK = ("runtime=inprocess", "rounds=2", "data.limit=300", "clients.count=4", "tracking.wandb=disabled")
LR, EPOCHS, ROUNDS = 0.3, 2, 3


@pytest.fixture(scope="module", autouse=True)
def site(tmp_path_factory):
    """A folder that the package is installed into, and found in."""
    copy, folder = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("site")
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    words = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--target", folder, copy)
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "strata_extras"]:
        del sys.modules[name]


def test_the_list_has_them(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in METHODS)
    assert "SCAFFOLD with option I" in shown


@pytest.mark.parametrize("method", METHODS)
def test_it_runs_by_its_name(method, tmp_path):
    assert main(["run", method, *QUICK, f"output={tmp_path}"]) == 0
    (run_dir,) = tmp_path.iterdir()
    history = strata.load_run(run_dir).history
    assert len(history) == 2
    assert run_dir.name.startswith(method)


@pytest.mark.parametrize("method", METHODS)
def test_it_does_what_the_engine_rests_on(method, capsys):
    code = main(["check", method, "method.batch_size=16", "method.lr=0.05"])
    assert code == 0, capsys.readouterr().out


UNEQUAL, EQUAL = (0, 20, 50, 90), (0, 30, 60, 90)


def federation(method, rounds=ROUNDS, ends=UNEQUAL, **settings):
    """Three clients with all of their data in a batch, so that an epoch is a step."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(90, 5)).astype("f4"), rng.integers(0, 3, 90)
    rows = [range(first, last) for first, last in pairwise(ends)]
    method_settings = {"lr": LR, "epochs": EPOCHS, "batch_size": 1000, **settings}
    return strata.Federation.from_config(
        method,
        {"rounds": rounds, "runtime": "inprocess", "model": "mclr", "method": method_settings},
        data=strata.data.from_arrays(x, y),
        partition=rows,
    )


def slope(params, x_nF, y_n):
    """The gradient of a softmax regression's mean cross-entropy, by name."""
    at = {name: value.clone().requires_grad_() for name, value in params.items()}
    F.cross_entropy(x_nF @ at["head.weight"].T + at["head.bias"], y_n).backward()
    return {name: value.grad for name, value in at.items()}


def step(params, by, lr):
    return {name: value - lr * by[name] for name, value in params.items()}


def descended(w, own):
    for _ in range(EPOCHS):
        w = step(w, slope(w, *own), LR)
    return w


class Played(NamedTuple):
    """The global model before the first round and after the last, each client's data, and what is left."""

    before: Params
    own: list
    tests: list
    after: Params
    clients: dict
    records: list


def played(method, **settings):
    with federation(method, **settings) as run:
        data, model = run.world.data, run.world.algorithm.global_model
        before = model(run.rounds.snapshot().server)
        x, y = torch.from_numpy(data.dataset.x), torch.from_numpy(data.dataset.y)
        own, tests = ([(x[part], y[part]) for part in parts] for parts in zip(*map(split, data.clients), strict=True))
        records = list(run)
        snapshot = run.rounds.snapshot()
        return Played(before, own, tests, model(snapshot.server), snapshot.clients, records)


def split(rows):
    return rows.train, rows.test


def mean(models, weights):
    return {
        name: sum(k * one[name] for k, one in zip(weights, models, strict=True)) / sum(weights) for name in models[0]
    }


def assert_close(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_ditto_is_what_plain_torch_makes_of_its_equations():
    w, own, _, after, clients, _ = played("my_ditto", lam=0.4)
    v = [w] * 3
    for _ in range(ROUNDS):
        for client in range(3):
            for _ in range(EPOCHS):
                towards = {name: 0.4 * (value - w[name]) for name, value in v[client].items()}
                by = slope(v[client], *own[client])
                v[client] = step(v[client], {name: by[name] + towards[name] for name in by}, LR)
        w = mean([descended(w, one) for one in own], [len(y) for _, y in own])
    assert_close(after, w)
    for client in range(3):
        assert_close(clients[client].v, v[client])


def test_fedadam_is_what_plain_torch_makes_of_its_equations():
    w, own, _, after, _, _ = played("my_fedadam", server_lr=0.1, tau=0.01)
    m, v = ({name: torch.zeros_like(value) for name, value in w.items()} for _ in range(2))
    for _ in range(ROUNDS):
        trained = mean([descended(w, one) for one in own], [len(y) for _, y in own])
        change = {name: trained[name] - w[name] for name in w}
        m = {name: 0.9 * m[name] + 0.1 * change[name] for name in w}
        v = {name: 0.99 * v[name] + 0.01 * change[name] ** 2 for name in w}
        w = {name: w[name] + 0.1 * m[name] / (v[name].sqrt() + 0.01) for name in w}
    assert_close(after, w)


def test_per_fedavg_is_what_plain_torch_makes_of_its_equations():
    w, own, tests, after, _, records = played("my_per_fedavg", alpha=0.2)
    for _ in range(ROUNDS):
        models = []
        for one in own:
            model = w
            for _ in range(EPOCHS):
                ahead = step(model, slope(model, *one), 0.2)
                model = step(model, slope(ahead, *one), LR)
            models.append(model)
        w = mean(models, [1, 1, 1])
    assert_close(after, w)
    # The personal models are made of w by a step of descent, on all of a client's data here.
    total = 0.0
    for one, (x, y) in zip(own, tests, strict=True):
        tuned = step(w, slope(w, *one), 0.2)
        total += float(F.cross_entropy(x @ tuned["head.weight"].T + tuned["head.bias"], y, reduction="sum"))
    assert records[-1].scores["PM"].loss == pytest.approx(total / sum(len(y) for _, y in tests), rel=1e-4)
    assert records[-1].scores["PM"].loss != pytest.approx(records[-1].scores["GM"].loss, rel=1e-3)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("my_top_k", {"share": 1.0}), ("my_dp_fedavg", {"noise": 0.0, "clip": 1e6}), ("my_scaffold", {"rounds": 1})],
)
def test_without_what_is_its_own_it_is_fedavg(method, settings):
    expected = played("fedavg", rounds=settings.get("rounds", ROUNDS), ends=EQUAL)
    assert_close(played(method, ends=EQUAL, **settings).after, expected.after)


def test_what_top_k_does_not_send_is_kept():
    w, own, _, after, clients, _ = played("my_top_k", rounds=1, share=0.25)
    begun, sent = flatten(w), []
    for client, one in enumerate(own):
        change = flatten(descended(w, one)) - begun
        sent.append(change - clients[client].rest)
        largest = change.abs().topk(4).indices  # a quarter of 18
        assert sorted(sent[-1].abs().gt(1e-5).nonzero().flatten().tolist()) == sorted(largest.tolist())
        torch.testing.assert_close(sent[-1][largest], change[largest], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flatten(after), begun + sum(sent) / 3, rtol=1e-4, atol=1e-6)


def test_noise_and_clip_are_as_large_as_is_said():
    clipped = played("my_dp_fedavg", rounds=1, clip=0.01, noise=0.0)
    w, begun = clipped.before, flatten(clipped.before)
    expected = sum(F.normalize(flatten(descended(w, one)) - begun, dim=0) for one in clipped.own)
    moved = flatten(clipped.after) - begun
    torch.testing.assert_close(moved, 0.01 * expected / 3, rtol=1e-3, atol=1e-6)
    noise = flatten(played("my_dp_fedavg", rounds=1, clip=1.0, noise=1000.0).after) - begun
    # The mean of three draws of standard deviation 1000, 18 times.
    assert 0.5 < float(noise.std()) / (1000 / 3**0.5) < 1.5


def test_my_server_tuned_trains_the_mean_on_the_servers_own_rows():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(90, 5)).astype("f4"), np.arange(90) % 3
    method = {"lr": LR, "epochs": EPOCHS, "batch_size": 1000, "server_lr": 0.2, "server_epochs": 3}
    with strata.Federation.from_config(
        "my_server_tuned",
        {"rounds": 1, "runtime": "inprocess", "model": "mclr", "method": method, "partition": "iid"},
        data=strata.data.from_arrays(x, y),
        clients={"count": 3},
        **{"data.server_fraction": 0.2, "data.server_test_fraction": 0.1},
    ) as run:
        w = {name: value.detach() for name, value in run.global_model().named_parameters()}
        record, data = run.run_round(), run.world.data
        after = run.global_model()
    held = [data.server.train, data.server.test, *(np.concatenate([one.train, one.test]) for one in data.clients)]
    assert sorted(np.concatenate(held)) == list(range(90))
    assert np.bincount(y[data.server.test]).tolist() == [3, 3, 3]
    assert len(data.server.train) == round(0.2 * 81)
    rows = [(torch.from_numpy(x[one.train]), torch.from_numpy(y[one.train])) for one in data.clients]
    ends, sizes = [descended(w, own) for own in rows], [len(own[1]) for own in rows]
    mean = {name: sum(n * end[name] for n, end in zip(sizes, ends, strict=True)) / sum(sizes) for name in w}
    served = torch.from_numpy(x[data.server.train]), torch.from_numpy(y[data.server.train])
    for _ in range(3):
        mean = step(mean, slope(mean, *served), 0.2)
    for name, value in after.named_parameters():
        torch.testing.assert_close(value, mean[name], rtol=1e-4, atol=1e-5)
    tested = (after(torch.from_numpy(x[data.server.test])).argmax(1).numpy() == y[data.server.test]).mean()
    assert record.scores["server GM"].accuracy == pytest.approx(tested)
    passes = 2  # forward, and the gradient of the weights; inputs have none
    assert record.metrics["server/flops"] == 3 * passes * 2 * len(data.server.train) * 5 * 3
