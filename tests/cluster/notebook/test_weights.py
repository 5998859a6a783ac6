"""Weights of a model as a file, and the model made of it again."""

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

import strata
from strata.cluster.cli import main
from strata.cluster.notebook.starting import run
from strata.engine.config.load import parse_overrides
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
        (["--global", "x.bin"], "expected a name that ends in .safetensors"),
        (["--global", "no/such/x.safetensors"], "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    made = trained(tmp_path, "permfl")
    assert main(["export", str(made.run_dir), *words]) == 1
    assert says in " ".join(capsys.readouterr().err.split())


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_text("no tensors")
    with pytest.raises(strata.StrataError, match="cannot be read"):
        strata.load_model(tmp_path / "x.safetensors")
    with pytest.raises(strata.StrataError, match="cannot be read"):
        strata.load_model(tmp_path / "gone.safetensors")
