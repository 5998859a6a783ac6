"""What the words of a comparison mean: methods, their own settings, and one setting for all."""

import sys

import pytest

from strata.cluster.entries import resolve
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError


@pytest.fixture
def tenfold(tmp_path, monkeypatch):
    """A method of the user's own, without agents, whose YAML sets the shared parts differently."""
    package = tmp_path / "mymethods"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tenfold.py").write_text(
        "from strata.algorithms.fedavg import FedAvg\nclass Tenfold(FedAvg):\n    Control = None\nMETHOD = Tenfold\n"
    )
    (package / "tenfold.yaml").write_text("method: {lr: 0.1}\nclients: {count: 10}\nrounds: 7\ndata: synthetic\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mymethods.tenfold"
    for name in ("mymethods", "mymethods.tenfold"):
        sys.modules.pop(name, None)


def test_the_first_method_gives_the_setting(tenfold):
    alone = load_config(tenfold)
    assert (alone.clients.count, alone.rounds, alone.data.name) == (10, 7, "synthetic")
    configs, remarks = resolve(["fedavg", tenfold])
    second = configs[tenfold]
    assert (second.clients.count, second.rounds, second.data.name) == (40, 50, "fashion_mnist_12k")
    assert (second.method.lr, second.algorithm) == (0.1, tenfold)
    (remark,) = remarks
    assert remark.startswith(f"{tenfold}: clients.count=10, data.name=synthetic, rounds=7 of its YAML gave way")
    configs, remarks = resolve([tenfold, "fedavg", "rounds=3"])
    assert [(c.clients.count, c.rounds, c.data.name) for c in configs.values()] == [(10, 3, "synthetic")] * 2
    assert configs["fedavg"].method.lr == load_config("fedavg").method.lr
    assert remarks == []  # what the first one leaves to the defaults is no setting of fedavg's YAML


def test_overrides_go_to_the_methods_that_have_the_key():
    configs, _ = resolve(["permfl", "fedavg", "fedprox:method.lr=0.3", "method.eta=0.02", "method.lr=0.2", "rounds=3"])
    assert configs["permfl"].method.eta == 0.02
    assert configs["fedavg"].method.lr == 0.2
    assert configs["fedprox:method.lr=0.3"].method.lr == 0.3  # its own word is the last
    assert {config.rounds for config in configs.values()} == {3}


def test_settings_of_agents_go_to_the_methods_that_have_agents(tenfold):
    configs, _ = resolve(["hapfl", "hapfl:agents.policy=uniform", tenfold, "agents.hidden=32"])
    assert [config.agents.policy for config in configs.values()] == ["rllib", "uniform", "none"]
    assert [config.agents.hidden for config in configs.values()] == [32, 32, load_config(tenfold).agents.hidden]
    with pytest.raises(ConfigError, match=r"agents.hidden: no such key, in mymethods.tenfold"):
        resolve([tenfold, "agents.hidden=32"])


def test_personal_models_are_for_methods_without_and_may_differ():
    words = ["fedavg", "fedavg:evaluation.personal=last", "permfl", "evaluation.personal=tuned", "rounds=3"]
    configs, _ = resolve(words)
    assert [config.evaluation.personal for config in configs.values()] == ["tuned", "last", "none"]
    with pytest.raises(ConfigError, match=r"permfl has personal models of its own"):
        resolve(["fedavg", "permfl:evaluation.personal=tuned"])
    with pytest.raises(ConfigError, match=r"evaluation.unseen is 0.5 in .* and 0.0 in fedavg: what is compared must"):
        resolve(["fedavg", "fedprox:evaluation.unseen=0.5"])


def test_commas_within_a_value_do_not_end_it():
    configs, _ = resolve(["fedavg", "fedavg:method.lr=0.3,method.epochs=2"])
    assert [(c.method.lr, c.method.epochs) for c in configs.values()] == [(0.01, 1), (0.3, 2)]
    with pytest.raises(ConfigError, match=r"model.hidden is \[3, 4\]"):
        resolve(["fedavg", "fedavg:model.hidden=[3,4],method.lr=0.3"])


def test_an_entry_says_each_thing_once():
    with pytest.raises(ConfigError, match=r"method\.lr: it is given twice, by method\.lr=0\.3 and by method\.lr=0\.4"):
        resolve(["fedavg", "fedprox:method.lr=0.3,method.lr=0.4"])
