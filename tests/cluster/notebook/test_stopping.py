"""Runs end before their last round by a target, by patience or by a rule, and go on as if they had not; own sinks."""

from dataclasses import replace
from importlib.metadata import EntryPoint
from math import nan

import pytest

import strata
from strata.cluster.cli import main
from strata.cluster.run.stopping import Stopping
from strata.engine.config.ending import StopConfig
from strata.engine.config.load import load_config
from strata.engine.config.written import parse_overrides
from strata.engine.rounds.records import Scores
from tests.helpers.records import record
from tests.helpers.small import small_overrides

SETTINGS = parse_overrides(small_overrides("fedavg", "rounds=6"))


class Kept:
    """A sink that keeps the numbers of its rounds."""

    def __init__(self):
        self.rounds, self.ended = [], []

    def start(self, run):
        self.began = run.resumed_round

    def round(self, record):
        self.rounds.append(record.round)

    def finish(self, summary, exit_code):
        self.ended.append((summary.get("stopped", ""), exit_code))


def scored(accuracy):
    scores = {"GM": Scores(1.0, 0.0, 1.0, 0.0, 1.0, {}), "PM": Scores(accuracy, 0.0, accuracy, 0.0, accuracy, {})}
    return replace(record(1), scores=scores)


def errors(value):
    """A record of a regression, whose main model has this RMSE."""
    scores = Scores(nan, 0.0, value, 0.0, value, {}, headline="rmse", measures={"rmse": value, "r2": 0.5})
    return replace(record(1), scores={"GM": scores})


@pytest.mark.parametrize(
    ("config", "values", "reason"),
    [
        (StopConfig(target=0.5), [3.0, 0.6, 0.5], "GM RMSE 0.5000 has reached stop.target=0.5"),
        (StopConfig(target=0.5), [3.0, 0.6, 0.7], ""),
        (StopConfig(patience=2), [3.0, 2.0, 2.5, 2.0], "GM RMSE has not fallen below 2.0000 for 2 evaluations"),
        (StopConfig(patience=2), [3.0, 2.0, 2.5, 1.0], ""),
    ],
)
def test_errors_are_to_fall(config, values, reason):
    stopping = Stopping(config)
    for value in values:
        stopping.add(errors(value))
    assert stopping.reason == reason


def ends(stopping, accuracies):
    """After how many rounds of these accuracies a run ends; 0: it does not."""
    for number, accuracy in enumerate(accuracies, 1):
        stopping.add(scored(accuracy))
        if stopping.reason:
            return number
    return 0


@pytest.mark.parametrize(
    ("config", "accuracies", "after"),
    [
        (StopConfig(accuracy=0.5), [0.1, 0.49, 0.5, 0.6], 3),
        (StopConfig(accuracy=0.5), [0.1, 0.4], 0),
        (StopConfig(target=0.5), [0.1, 0.49, 0.5, 0.6], 3),
        (StopConfig(patience=2), [0.3, 0.3, 0.4, 0.4, 0.2, 0.9], 5),
        (StopConfig(patience=2), [0.3, 0.2, 0.4, 0.3], 0),
        (StopConfig(), [0.3] * 9, 0),
    ],
)
def test_a_target_and_patience_are_of_the_main_model(config, accuracies, after):
    assert ends(Stopping(config), accuracies) == after


def test_a_run_that_is_stopped_is_finished_and_saved_and_stays_so(tmp_path):
    kept = Kept()
    made = strata.run("fedavg", SETTINGS, output=tmp_path, quiet=True, stop=lambda one: one.round == 2, sinks=[kept])
    assert (made.rounds, made.finished, made.checkpoint.name) == (2, True, "round-000002")
    assert (kept.began, kept.rounds, kept.ended) == (0, [1, 2], [("the rule that was given says so", 0)])
    again = strata.run(resume=made.run_dir, quiet=True, stop=lambda one: one.round == 2)
    assert again.rounds == 2
    kept = Kept()
    assert strata.run(resume=made.run_dir, quiet=True, sinks=[kept], stop={"accuracy": 0.0001}).rounds == 2
    assert strata.run(resume=made.run_dir, quiet=True, sinks=[kept], stop={"accuracy": 0}).rounds == 6
    assert kept.rounds == [3, 4, 5, 6]


def test_virtual_time_is_a_budget_and_its_last_round_is_evaluated(tmp_path):
    settings = parse_overrides(
        small_overrides("fedavg", "rounds=6", "evaluation.every=100", "delays.server_latency_s=1")
    )
    made = strata.run("fedavg", settings, output=tmp_path, quiet=True, stop={"virtual_s": 2.5})
    *before, last = made.history["virtual_s"]
    assert max(before) < 2.5 <= last
    evaluated = made.history["GM.accuracy"].notna().tolist()
    assert evaluated == [False] * len(before) + [True]
    assert f"the virtual clock, {last:.6g} s, has reached stop.virtual_s=2.5" in made.summary["stopped"]
    rounds = made.rounds
    assert strata.run(resume=made.run_dir, quiet=True).rounds == rounds
    assert strata.run(resume=made.run_dir, quiet=True, stop={"virtual_s": last + 0.5}).rounds == rounds + 1


def test_a_target_is_told_and_is_part_of_the_summary(tmp_path, capsys):
    words = [*small_overrides("fedavg", "rounds=6"), "stop.accuracy=0.0001", f"output={tmp_path}"]
    assert main(["run", "fedavg", *words]) == 0
    assert "Stopped after round 1 of 6: GM accuracy" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    assert "has reached stop.accuracy=0.0001" in strata.load_run(folder).summary["stopped"]


def test_a_rule_or_a_sink_that_is_none_is_said(tmp_path):
    with pytest.raises(strata.StrataError, match="stopping rule that was given raised ZeroDivisionError"):
        strata.run("fedavg", SETTINGS, output=tmp_path, quiet=True, stop=lambda one: 1 / 0)
    for sink in (Kept, object()):
        with pytest.raises(strata.StrataError, match="expected an object with the methods start, round and finish"):
            strata.run("fedavg", SETTINGS, output=tmp_path, quiet=True, sinks=[sink])
    with pytest.raises(strata.StrataError, match="no such sink"):
        strata.run("fedavg", SETTINGS, output=tmp_path, quiet=True, **{"tracking.sinks": ["gone"]})


def test_methods_and_sinks_of_other_packages_go_by_their_names(tmp_path, monkeypatch, capsys):
    points = {
        "strata.methods": [EntryPoint("theirs", "strata.algorithms.fedprox:FedProx", "strata.methods")],
        "strata.sinks": [EntryPoint("kept", f"{__name__}:Kept", "strata.sinks")],
    }
    for home in ("strata.engine.method.find", "strata.cluster.sinks.installed"):
        monkeypatch.setattr(f"{home}.entry_points", lambda group: points[group])
    assert load_config("theirs").method_class.__name__ == "FedProx"
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "theirs" in shown
    assert "sinks       kept, csv, tensorboard" in shown
    made = strata.run("theirs", {**SETTINGS, "rounds": 1}, output=tmp_path, quiet=True, **{"tracking.sinks": ["kept"]})
    assert made.rounds == 1
