"""Weights of a model as a file, and the model made of it again."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import strata
from strata.cluster.cli import main
from strata.cluster.notebook.starting import run
from strata.engine.config.written import parse_overrides
from tests.helpers.small import small_overrides


def flat(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))


def trained(folder, method, *words):
    overrides = small_overrides(method, "rounds=1", "agents.policy=none", *words)
    return run(method, parse_overrides([word for word in overrides]), output=folder, quiet=True)


@pytest.mark.parametrize(
    ("method", "whose", "kind"),
    [
        ("permfl", ["--client", "3"], "PM"),
        ("permfl", ["--team", "1"], "TM"),
        ("permfl", ["--global"], "GM"),
        ("perfedrlnas", ["--client", "0"], "PM"),
        ("fedproto", ["--client", "1"], "PM"),
    ],
)
def test_a_model_comes_back_from_its_file(tmp_path, capsys, method, whose, kind):
    made = trained(tmp_path, method)
    path = tmp_path / "model.safetensors"
    assert main(["export", str(made.run_dir), *whose, str(path)]) == 0
    assert f"{kind} of" in capsys.readouterr().out
    verbs = {"PM": made.client_model, "TM": made.team_model}
    expected = made.global_model() if kind == "GM" else verbs[kind](int(whose[1]))
    found = strata.load_model(path)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(found(x), expected(x))
    assert not found.training
    with safe_open(path, "pt") as file:
        told = file.metadata()
    assert (told["method"], told["kind"], told["classes"], told["round"]) == (method, kind, "10", "1")
    assert json.loads(told["class_names"])[0] == "T-shirt/top"


def test_a_model_of_ones_own_is_made_by_whoever_loads_it(tmp_path):
    made = trained(tmp_path, "fedavg", "model=tests.cluster.notebook.test_weights:flat")
    path = tmp_path / "model.safetensors"
    assert main(["export", str(made.run_dir), "--global", str(path)]) == 0
    with pytest.raises(strata.StrataError, match="give model=, what makes it"):
        strata.load_model(path)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(strata.load_model(path, flat)(x), made.global_model()(x))
    with pytest.raises(strata.StrataError, match="do not fit the model"):
        strata.load_model(path, lambda shape, classes: nn.Linear(3, classes))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--client", "99", "x.safetensors"], "client 99: there is none"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    made = trained(tmp_path, "permfl")
    assert main(["export", str(made.run_dir), *words]) == 1
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("x.bin", "x.bin: expected a name that ends in .safetensors"),
        ("no/such/x.safetensors", "export no/such/x.safetensors: there is no folder no/such."),
        ("folder.safetensors", "export folder.safetensors: it cannot be written: "),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_anything_is_loaded(tmp_path, monkeypatch, capsys, path, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    assert main(["export", "no-such-run", "--global", path]) == 1
    assert says in " ".join(capsys.readouterr().err.split())


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_text("no tensors")
    with pytest.raises(strata.StrataError, match="cannot be read"):
        strata.load_model(tmp_path / "x.safetensors")
    with pytest.raises(strata.StrataError, match="cannot be read"):
        strata.load_model(tmp_path / "gone.safetensors")


def arrays(seed=0):
    """Small pictures of two classes, of six clients."""
    draws = np.random.default_rng(seed)
    y = np.arange(120) % 2
    x = draws.normal(size=(120, 1, 6, 6)).astype(np.float32) + y[:, None, None, None]
    return strata.data.from_arrays(x, y, clients=np.arange(120) // 20, name="blobs")


GIVEN = {"rounds": 2, "runtime": "inprocess", "tracking.wandb": "disabled", "clients.mode": "sync", "model": "mclr"}


@pytest.mark.parametrize(
    ("method", "whose", "more"),
    [
        ("permfl", ["--team", "1"], {"teams.count": 2, "teams.formation": "similarity"}),
        ("permfl", ["--global"], {"teams.count": 2, "attacks": {"share": 0.4, "kind": "label_flip"}}),
        ("fedavg", ["--client", "2"], {"evaluation.personal": "last"}),
        ("hapfl", ["--client", "1"], {"model": "mlp", "agents.policy": "none"}),
    ],
)
def test_a_run_of_arrays_gives_its_models_without_them(tmp_path, method, whose, more):
    made = run(method, {**GIVEN, **more}, data=arrays(), output=str(tmp_path), quiet=True)
    verbs = {"--client": made.client_model, "--team": made.team_model}
    expected = made.global_model() if whose == ["--global"] else verbs[whose[0]](int(whose[1]))
    path = tmp_path / "model.safetensors"
    assert main(["export", str(made.run_dir), *whose, str(path)]) == 0
    x = torch.randn(3, 1, 6, 6)
    assert torch.equal(strata.load_model(path)(x), expected(x))
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["class_names"]) == ["0", "1"]


def test_so_does_one_whose_rows_and_delays_were_given_too(tmp_path):
    rows = [np.arange(40), np.arange(40, 100), np.arange(100, 120)]
    delays = [strata.Profile("mine", flops_per_s=speed) for speed in (1e9, 2e9, 3e9)]
    settings = {**GIVEN, "data.limit": 200, "teams.count": 1}
    made = run("permfl", settings, partition=rows, delays=delays, output=str(tmp_path), quiet=True)
    opened = strata.load_run(made.run_dir)
    for client in range(3):
        for name, value in made.client_model(client).state_dict().items():
            assert torch.equal(value, opened.client_model(client).state_dict()[name])
    assert [info.device for info in opened.world.infos] == ["mine"] * 3
    assert [info.flops_per_s for info in opened.world.infos] == [1e9, 2e9, 3e9]


def test_a_model_that_is_made_of_the_data_needs_them(tmp_path, capsys):
    settings = {**GIVEN, "evaluation.personal": "tuned"}
    made = run("fedavg", settings, data=arrays(), output=str(tmp_path), quiet=True)
    words = ["export", str(made.run_dir), "--client", "1", str(tmp_path / "model.safetensors")]
    assert main(words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "is trained on its client's data before it is evaluated" in said
    assert "strata.load_run(FOLDER, data=data)" in said
    strata.load_run(made.run_dir, data=arrays()).client_model(1)  # with the same again


def test_other_data_than_the_run_had_are_refused(tmp_path):
    made = run("fedavg", GIVEN, data=arrays(), output=str(tmp_path), quiet=True)
    with pytest.raises(strata.StrataError, match="data is not what it was"):
        strata.load_run(made.run_dir, data=arrays(seed=1)).global_model()
