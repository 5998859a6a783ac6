"""Data, partitions, delays, models and methods that are objects of Python, in this process and on Ray."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import strata
from strata.cluster.cli import main
from strata.engine.config.given import load_given, taken

ROOT = Path(__file__).parents[3]
QUIET = {"quiet": True, "runtime": "inprocess", "tracking": {"wandb": "disabled"}, "rounds": 1}
DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(160, 5)).astype("float32")
Y = (X[:, 0] > 0).astype(int)
ROWS = [range(start, start + 40) for start in range(0, 160, 40)]
PROFILES = [strata.Profile(f"device {i}", flops_per_s=1e9 * (i + 1)) for i in range(4)]

SCRIPT = """
import sys
from dataclasses import dataclass
from torch import nn
import numpy as np
import strata
from strata.algorithms.fedavg import FedAvg, FedAvgConfig
from strata.engine import ClientResult, Length, Sgd, Train, option

@dataclass(frozen=True)
class Count:
    calls: int = 0

@dataclass(frozen=True)
class SillyConfig(FedAvgConfig):
    shrink: float = option(0.5, "factor", gt=0, le=1)

class Silly(FedAvg):
    Config = SillyConfig
    stateless = False

    def init_client(self, info, seed):
        return Count()

    def client_step(self, info, state, down, context):
        result = yield from super().client_step(info, None, down, context)
        w = {name: self.config.shrink * value for name, value in result.up.w.items()}
        return ClientResult(type(result.up)(w), Count(state.calls + 1), {"calls": float(state.calls + 1)})

    def global_step(self, g, ups, context):
        mean = super().global_step(g, ups, context)
        trained = yield Train(self.model, mean.w, Sgd(0.1), 8, Length(steps=2))
        return type(mean)(trained.params)

class Net(nn.Linear):
    def __init__(self, shape, classes):
        super().__init__(shape[0], classes)

class AllButOne(strata.Waiting):
    def closes_s(self, seconds, moment):
        return sorted(seconds)[-2]

def mean_margin(outputs, targets):
    return float(outputs.gather(1, targets[:, None]).mean())

if __name__ == "__main__":
    draws = np.random.default_rng(0)
    x = draws.normal(size=(160, 5)).astype("float32")
    data = strata.data.from_arrays(x, (x[:, 0] > 0).astype(int), clients=np.arange(160) // 40)
    served = {"data.server_fraction": 0.1, "data.server_test_fraction": 0.1, "delays.server_device": "laptop"}
    tables = []
    for runtime in ("inprocess", "ray"):
        run = strata.run(Silly, {"ray.num_cpus": 2, "clients_per_actor": 2, "state.cache_mib": 1e-5, **served},
                         runtime=runtime, rounds=2, data=data, model=Net, metrics={"margin": mean_margin},
                         schedule=AllButOne(), output=sys.argv[1], quiet=True, tracking={"wandb": "disabled"})
        assert run.client_calls["metrics.calls"].max() == 2
        assert list(run.history["late"]) == [1, 1]
        assert (run.history["metrics.server/compute_s"] > 0).all()
        assert run.history[["GM.margin", "server GM.margin", "server GM.accuracy"]].notna().all().all()
        assert isinstance(run.global_model(), Net)
        tables.append(run.history)
    assert tables[0].equals(tables[1])
"""


@pytest.mark.slow
def test_what_a_script_defines_is_the_same_on_ray(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    import os

    paths = os.pathsep.join([str(ROOT / "build" / "links"), str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, script, tmp_path / "runs"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list((tmp_path / "runs").rglob("*.pkl"))


def test_arrays_rows_and_profiles_are_the_runs_own(tmp_path):
    own = {"data": strata.data.from_arrays(X, Y, name="toy"), "partition": ROWS, "delays": PROFILES}
    made = strata.run("fedavg", output=tmp_path, **QUIET, **own)
    assert (made.config.data.name, made.config.partition.name, made.config.clients.count) == ("memory:toy", "given", 4)
    world = made.world
    for client, rows in enumerate(world.data.clients):
        assert sorted([*rows.train, *rows.test]) == list(ROWS[client])
        assert world.profiles[client].flops_per_s == 1e9 * (client + 1)
    assert np.array_equal(world.data.dataset.x, X)
    assert strata.run(resume=made.run_dir, **{**QUIET, "rounds": 2}, **own).rounds == 2
    opened = strata.load_run(made.run_dir, **own)
    assert opened.global_model()(torch.from_numpy(X)).shape == (160, 2)


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ("data", "these data were given in Python"),
        ("partition", "who holds which rows was given in Python"),
        ("delays", "they were given in Python; give the same as delays="),
        (None, "it is of another run: data is"),
    ],
)
def test_a_run_that_is_resumed_is_told_the_same_again(tmp_path, left, says):
    own = {"data": strata.data.from_arrays(X, Y), "partition": ROWS, "delays": PROFILES}
    made = strata.run("fedavg", output=tmp_path, **QUIET, **own)
    others = {key: value for key, value in own.items() if key != left}
    if left is None:
        others["data"] = strata.data.from_arrays(X + 1, Y)
    with pytest.raises(strata.StrataError) as caught:
        strata.run(resume=made.run_dir, **{**QUIET, "rounds": 2}, **others)
    assert says in str(caught.value)


def test_data_say_who_holds_them_and_what_is_test_data():
    data = strata.data.from_arrays(X, Y, clients=np.arange(160) % 8, test=np.arange(160) % 4 == 0)
    config, given = load_given("fedavg", {}, {"data": data})
    assert (config.partition.name, config.clients.count, config.data.split) == ("natural", 8, "published")
    assert given.data is data
    config, _ = load_given("fedavg", ["partition=iid", "data.split=client", "clients.count=3"], {"data": data})
    assert (config.partition.name, config.clients.count, config.data.split) == ("iid", 3, "client")


def test_test_data_are_added_behind():
    data = strata.data.from_arrays(X[:100], Y[:100], test=(X[100:], Y[100:]))
    assert np.array_equal(data.x, X)
    assert data.natural_test.tolist() == [False] * 100 + [True] * 60


def test_a_torch_data_set_is_its_samples():
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 160

        def __getitem__(self, place):
            return torch.from_numpy(X[place]), int(Y[place])

    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    for made in (strata.data.from_torch(Pairs()), strata.data.from_torch(tensors, classes=["no", "yes"])):
        assert np.array_equal(made.x, X)
        assert np.array_equal(made.y, Y)
    assert made.class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("x", "y", "options", "says"),
    [
        (X, Y[:-1], {}, "expected one target a sample"),
        ([[1.0], [1.0, 2.0]], [0, 1], {}, "it is no array"),
        (X * np.nan, Y, {}, "missing or not finite"),
        (X, Y, {"classes": 1}, "labels 0..1, expected 0..0"),
        (X, Y, {"classes": "two"}, "expected how many there are, or their names"),
        (X, Y, {"clients": [1, 2]}, "expected the name or whole number"),
        (X, Y, {"test": [True]}, "expected a pair (x, y), or True or False"),
        (X, Y, {"test": (X[:, :2], Y)}, "expected float32 of shape (5,)"),
        (X, Y, {"name": "a b"}, "expected letters, digits"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(x, y, options, says):
    with pytest.raises(strata.StrataError) as caught:
        strata.data.from_arrays(x, y, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("source", "settings", "says"),
    [
        ("fedavg", {"model": lambda shape, classes: None}, "Define it by class or def at the top level"),
        (int, {}, "expected a FlatAlgorithm or TieredAlgorithm"),
        (strata.engine.FlatAlgorithm, {}, "must define"),
        ("fedavg", {"partition": {0: "rows"}}, "expected a list of rows"),
        ("fedavg", {"partition": [[0, 1], [1, 2]]}, "lists row 1 2 times"),
        ("fedavg", {"delays": PROFILES, "clients.count": 3}, "4 profiles for 3 clients"),
        ("__main__:Gone", {}, "__main__ must define Gone"),
    ],
)
def test_objects_that_are_none_of_a_run_are_refused(tmp_path, source, settings, says):
    with pytest.raises(strata.StrataError) as caught:
        strata.run(source, output=tmp_path, **QUIET, **{"data.limit": 600, "partition.min_samples": 2}, **settings)
    assert says in str(caught.value)


def test_a_class_that_ships_with_strata_is_its_name():
    from strata.algorithms.fedprox import FedProx

    assert load_given(FedProx, {}, {})[0].algorithm == "fedprox"
    assert taken({"model": "mlp", "partition": {"name": "iid"}})[0] == {"model": "mlp", "partition": {"name": "iid"}}


def test_a_method_of_the_folder_one_stands_in_is_found(tmp_path, monkeypatch, capsys):
    package = tmp_path / "folder_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text("from strata.algorithms.fedavg import FedAvg\nMETHOD = FedAvg\n")
    (package / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    assert main(["config", "folder_package.mine"]) == 0
    assert "algorithm: folder_package.mine" in capsys.readouterr().out
    assert main(["config", "folder_package.broken"]) == 1
    assert "importing folder_package.broken raised ZeroDivisionError" in " ".join(capsys.readouterr().err.split())
