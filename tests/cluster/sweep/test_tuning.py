"""Sweeps and users' own trials on one Ray of two CPUs: side by side, each in what it was given."""

import json
import shutil

import pandas as pd
import pytest
import ray
from ray import tune

from strata.cluster.cli import main
from strata.cluster.notebook.handle import Run
from strata.cluster.sinks.jsonl import METRICS
from strata.cluster.sweep.ledger import LEDGER, reopen
from strata.cluster.sweep.tuning import LOG, SETTINGS
from strata.engine.config.written import parse_overrides
from strata.engine.runtime import local_ray
from tests.helpers.small import played, small_overrides

pytestmark = pytest.mark.filterwarnings(
    # Ray Tune's own.
    "ignore::DeprecationWarning:ray",
    "ignore::FutureWarning:ray",
)
BROKEN = "1e+38"


@pytest.fixture(scope="module")
def two_cpus():
    """A Ray that the commands and trials below use as they find it."""
    local_ray.start(2, 0)
    yield
    ray.shutdown()


def accuracies(run_dir):
    lines = [json.loads(line) for line in (run_dir / METRICS).read_text().splitlines()]
    return [line["scores"]["GM"]["accuracy"] for line in lines if line["scores"]]


@pytest.mark.slow
def test_a_sweep_makes_all_of_its_runs_and_goes_on_where_it_was_stopped(two_cpus, tmp_path, monkeypatch, capsys):
    for name, value in SETTINGS.items():  # which the command sets for good
        monkeypatch.setenv(name, value)
    words = small_overrides("fedavg", f"output={tmp_path}", "rounds=2", "clients.count=4")
    assert main(["sweep", "fedavg", *words, f"method.lr=0.05,{BROKEN}", "seeds=[0,1]"]) == 1
    out = capsys.readouterr().out
    (folder,) = tmp_path.glob("sweep-fedavg-*")
    sweep = reopen(folder)
    assert [(one.values["method.lr"], one.seed) for one in sweep.entries] == [
        ("0.05", 0),
        ("0.05", 1),
        (BROKEN, 0),
        (BROKEN, 1),
    ]
    assert [one.finished for one in sweep.entries] == [True, True, False, False]
    for one in sweep.entries[:2]:
        _, records, _ = played("fedavg", "rounds=2", "clients.count=4", "method.lr=0.05", f"seed={one.seed}")
        assert accuracies(one.folder) == [record.scores["GM"].accuracy for record in records if record.scores]
        assert Run(one.folder).config.tracking.group == folder.name
    assert "failed: 2 of the runs" in out
    assert "loss is nan" in " ".join(out.split())
    assert "Traceback" not in out
    assert "error: client" in (sweep.entries[2].folder / LOG).read_text()
    assert "0.05" in out.partition("after the last round")[2]
    assert sorted(pd.read_csv(folder / "sweep.csv")["seed"]) == [0, 1]

    lost = sweep.entries[0]
    expected = accuracies(lost.folder)
    shutil.rmtree(lost.folder / "checkpoints")
    (lost.folder / METRICS).unlink()
    plain = json.loads((folder / LEDGER).read_text())
    plain["runs"] = plain["runs"][:2]
    (folder / LEDGER).write_text(json.dumps(plain))
    untouched = (sweep.entries[1].folder / METRICS).stat().st_mtime_ns
    assert main(["sweep", f"resume={folder}"]) == 0
    assert "(1 of 1)" in capsys.readouterr().out
    assert accuracies(lost.folder) == expected
    assert (sweep.entries[1].folder / METRICS).stat().st_mtime_ns == untouched


def trial(parameters):
    """What a user writes."""
    import strata

    words = {"output": parameters["output"], "method.lr": parameters["lr"]}
    run = strata.run("fedavg", {**parameters["settings"], **words}, quiet=True)
    return {"accuracy": run.history["GM.accuracy"].iloc[-1]}


@pytest.mark.slow
def test_trials_of_a_users_own_run_side_by_side_in_their_placement_groups(two_cpus, tmp_path):
    few = ["rounds=2", "clients.count=4"]
    settings = parse_overrides(small_overrides("fedavg", *few, "ray.start_timeout_s=200", runtime="ray"))
    tuner = tune.Tuner(
        trial,
        param_space={"lr": tune.grid_search([0.05, 0.1]), "output": str(tmp_path), "settings": settings},
        run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0),
    )
    results = tuner.fit()
    assert not results.errors
    for result in results:
        _, records, _ = played("fedavg", *few, f"method.lr={result.config['lr']}")
        assert result.metrics["accuracy"] == records[-1].scores["GM"].accuracy


def fitted(share):
    """Start a run in this task's placement group; what it says of its actors, or why it does not fit."""
    from strata.engine.errors import ResourceError
    from strata.engine.federation import Federation
    from tests.helpers.small import small

    lines = []
    try:
        with Federation(small("fedavg", f"clients.num_cpus={share}", runtime="ray"), lines.append):
            return lines[-1]
    except ResourceError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_run_takes_what_its_group_has_and_no_more(two_cpus):
    group = ray.util.placement_group([{"CPU": 1}])
    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    asked = ray.remote(fitted).options(num_cpus=1, scheduling_strategy=strategy)
    try:
        assert ray.get(asked.remote(0.5)).startswith("2 client actors with 4 clients each, 1 global server on 1 node")
        said = ray.get(asked.remote(1.5))
        assert "the cluster has 1 node with 1 CPU and 0 GPU" in said
        assert "The run is in a placement group" in said
    finally:
        ray.util.remove_placement_group(group)
