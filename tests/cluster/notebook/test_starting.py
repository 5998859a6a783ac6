"""`strata.run` does what the command does, and gives the run back."""

import pandas as pd
import pytest
import torch

import strata
from strata.cluster.notebook.starting import run
from strata.engine.config.load import load_config
from strata.engine.errors import CheckpointError, ConfigError, StrataError
from strata.engine.federation import Federation
from tests.helpers.small import small

SETTINGS = {
    "rounds": 2,
    "data.limit": 600,
    "clients": {"count": 8},
    "clients.participation": 1.0,
    "teams.count": 2,
    "partition": {"name": "labels", "labels_per_client": 2},
    "tracking.wandb": "disabled",
    "training.batch_clients": 1,
    "runtime": "inprocess",
    "method": {"team_rounds": 3, "local_steps": 2, "batch_size": 16},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two rounds of PerMFL."""
    return run("permfl", SETTINGS, output=str(tmp_path_factory.mktemp("runs")), quiet=True)


def equal(one, other):
    """Whether two modules hold the same values under the same names."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_is_the_federation_of_the_same_settings(made):
    with Federation(small("permfl", "rounds=2")) as federation:
        records = list(federation)
        history = made.history
        assert list(history.index) == [1, 2]
        assert list(history["PM.accuracy"]) == [record.scores["PM"].accuracy for record in records]
        for client in (0, 5):
            assert equal(made.client_model(client), federation.client_model(client))
        assert not equal(made.client_model(0), made.client_model(5))
        assert equal(made.global_model(), federation.global_model())
        assert equal(made.team_model(1), federation.team_model(1))
        scores = made.client_history
        assert scores[scores["round"] == 2].set_index("client")["PM"].to_dict() == records[-1].scores["PM"].clients
    assert made.finished
    assert made.summary["last"] == {kind: scores.accuracy for kind, scores in records[-1].scores.items()}
    assert set(made.client_calls["client"]) == set(range(8))
    assert made.config.clients.count == 8
    assert repr(made).startswith("Run(permfl, seed 0, 2 of 2 rounds, PM ")


def test_a_folder_is_opened_again_and_gone_on_with(made, tmp_path):
    first = run("permfl", {**SETTINGS, "rounds": 1}, output=tmp_path, quiet=True)
    opened = strata.load_run(str(first.run_dir))
    assert (opened.rounds, opened.finished) == (1, True)
    again = run(resume=first.run_dir, rounds=2, quiet=True)
    assert again.run_dir == first.run_dir
    pd.testing.assert_frame_equal(again.history, made.history)
    assert (opened.rounds, opened.finished) == (2, True)
    assert equal(opened.team_model(0), made.team_model(0))


def test_a_run_without_a_checkpoint_has_tables_and_no_models(tmp_path):
    made = run(
        "fedavg", {**SETTINGS, "method": {}, "rounds": 1}, output=tmp_path, quiet=True, **{"checkpoint.every": 0}
    )
    assert len(made.history) == 1
    with pytest.raises(CheckpointError, match="there is no checkpoint, so there are no models"):
        made.global_model()


def test_a_run_that_has_not_begun_has_empty_tables(tmp_path):
    (tmp_path / "config.yaml").write_text("algorithm: fedavg\n")
    opened = strata.load_run(tmp_path)
    assert (len(opened.history), opened.rounds, opened.finished) == (0, 0, False)
    with pytest.raises(StrataError, match="clients is missing"):
        _ = opened.client_history


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(StrataError, match=r"expected the folder of a run; config\.yaml is missing"):
        strata.load_run(tmp_path)


@pytest.mark.parametrize(
    ("words", "settings", "says"),
    [
        ((), {}, "name a method or a YAML file"),
        (("permfll",), {}, "Did you mean permfl"),
        ((3,), {}, "3: expected the name of a method"),
        (("permfl", ["rounds=2"]), {}, "expected settings by key"),
        (("permfl",), {"rounds": "2"}, "rounds='2': expected a whole number"),
        (("permfl", {"rounds": 2}), {"rounds": 3}, "rounds: it is given twice"),
        (("permfl",), {"seeds": [1, 2]}, "strata.run makes one run"),
        (("permfl",), {"clients": {"cuont": 2}}, "Did you mean count"),
        (("permfl",), {"resume": "nowhere"}, "expected one of them"),
        ((), {"resume": "nowhere"}, "config.yaml is missing"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_before_anything_starts(tmp_path, monkeypatch, words, settings, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StrataError) as caught:
        run(*words, quiet=True, **settings)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_values_of_python_are_taken_as_they_are(tmp_path):
    name = "1e-3"  # which a command line would read as a number
    config = load_config("permfl", {"tracking": {"name": name, "tags": ["a, b", "[c]"]}, "method.alpha": 1})
    assert (config.tracking.name, config.tracking.tags, config.method.alpha) == (name, ["a, b", "[c]"], 1.0)
    with pytest.raises(ConfigError, match="a object is no setting"):
        load_config("permfl", {"tracking.name": object()})


def test_text_that_looks_like_a_number_comes_back_as_text(tmp_path):
    config = load_config("permfl", {"tracking": {"name": "1e-3", "tags": ["1_000", "0.5e7", "12", "null"]}})
    path = tmp_path / "printed.yaml"
    path.write_text(strata.engine.to_yaml(config))
    assert load_config(str(path)) == config


def test_in_a_notebook_a_run_is_plain_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    run("fedavg", {**SETTINGS, "method": {}, "rounds": 1}, output=tmp_path)
    shown = capsys.readouterr().out
    assert shown.startswith("reading fashion_mnist_12k, and dealing it to 8 clients …\nfedavg, seed 0, 1 rounds\n")
    assert "\x1b" not in shown
