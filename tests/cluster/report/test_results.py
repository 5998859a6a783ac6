"""Runs read back, grouped and set against each other."""

from strata.cluster.report.results import change, grouped, read_run
from strata.engine.config.load import load_config
from tests.helpers.comparisons import copied


def test_runs_are_grouped_by_method_and_its_own_settings(done, tmp_path):
    folder, _ = done
    runs = sorted((folder / "runs").glob("fed*"))
    assert [(one.label, [run.seed for run in one.runs]) for one in grouped(list(map(read_run, runs)))] == [
        ("fedavg", [0, 1]),
        ("fedprox", [0, 1]),
    ]
    (run,) = (folder / "runs").glob("fedprox*seed0")

    def usual(config, rounds):
        config["method"]["mu"] = load_config("fedprox").method.mu

    runs.append(copied(run, tmp_path / "usual", usual))
    labels = [one.label for one in grouped(list(map(read_run, runs)))]
    assert labels == ["fedavg", "fedprox:method.mu=0.5", "fedprox"]


def test_relative_change():
    assert change(75.0, 100.0) == "-25.0 %"
    assert change(99.9999, 100.0) == "+0.0 %"
    assert change(1.0, 0.0) == "–"
