"""Reports of a task whose measure falls: read from folders of runs, and less is better in tables, targets and plots."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import strata
from strata.cluster.report.comparison import Comparison
from strata.cluster.report.plots import draw
from strata.cluster.report.results import Contestant, Run, grouped, read_run
from strata.cluster.report.targets import COMMON, goal_of, reach
from strata.cluster.sinks.jsonl import read_records

DRAWS = np.random.default_rng(2)
X = DRAWS.normal(size=(120, 4)).astype("float32")
Y = (X @ DRAWS.normal(size=4) + 0.1 * DRAWS.normal(size=120)).astype("float32")


@pytest.fixture(scope="module")
def contestants(tmp_path_factory):
    """FedAvg and Ditto on a regression, four rounds each."""
    settings = {
        "data": strata.data.from_arrays(X, Y),
        "clients": {"count": 6},
        "partition": "iid",
        "runtime": "inprocess",
        "rounds": 4,
        "method.lr": 0.05,
        "output": str(tmp_path_factory.mktemp("runs")),
        "tracking": {"wandb": "disabled"},
    }
    runs = [strata.run(method, settings, quiet=True) for method in ("fedavg", "ditto")]
    return grouped([read_run(run.run_dir) for run in runs])


def test_the_headline_is_read_from_the_rounds(contestants):
    fedavg, ditto = contestants
    assert [one.headline.name for one in contestants] == ["rmse", "rmse"]
    assert list(fedavg.runs[0].measures) == ["mae", "r2"]
    records = list(read_records(fedavg.runs[0].run_dir))
    assert fedavg.headlines("GM") == [records[-1].scores["GM"].value] == [records[-1].scores["GM"].measures["rmse"]]
    assert math.isnan(records[-1].scores["GM"].accuracy)
    assert ditto.personal == "PM"


def test_tables_name_the_measure_and_have_no_per_cent(contestants):
    made = Comparison(contestants, None, "setting", "command")
    assert made.headings[1:5] == ["PM RMSE", "TM RMSE", "GM RMSE", "worst decile"]
    (gm,) = contestants[0].headlines("GM")
    assert made.rows[0][1:4] == ["–", "–", f"{gm:.4g}"]
    assert made.further is not None
    assert made.further.headings == ["method", "hurt", "MAE", "R²"]
    assert {"GM", "mae", "r2", "worst_decile"} <= set(made.numbers()["fedavg"])


def test_what_is_tested_at_the_server_stands_apart():
    columns = {"GM.accuracy": [0.5], "server GM.accuracy": [0.25], "virtual_s": [1.0], "straggling_s": [0.0]}
    rounds = pd.DataFrame({**columns, "bytes_total": [1.0], "flops_total": [1.0]}, index=[1])
    made = Comparison([Contestant("fedavg", [Run(Path("x"), {"seed": 0}, rounds)])], None, "setting", "command")
    assert made.further is not None
    assert (made.further.headings, made.further.rows) == (["method", "server GM"], [["fedavg", "25.00 %"]])
    assert made.numbers()["fedavg"]["server GM"] == 0.25


def test_a_target_is_reached_from_above(contestants):
    found = reach(goal_of(COMMON, ["fedavg", "ditto"]), contestants)
    bests = [one.runs[0].rounds[f"{one.personal}.rmse"].min() for one in contestants]
    assert found.by_seed == {0: max(bests)}
    assert found.title == f"until the common RMSE: {max(bests):.4g}"
    assert "at or below the target" in found.caption
    for one, attained in zip(contestants, found.attainments, strict=True):
        curve = one.runs[0].rounds[f"{one.personal}.rmse"]
        assert attained.mean("rounds") == curve.index[curve <= max(bests)][0]
    assert found.numbers("fedavg")["target_rmse"] == max(bests)
    assert reach(goal_of("50", ["fedavg"], math.inf), contestants).attainments[0].mean("rounds") == 1
    assert reach(goal_of("0", ["fedavg"]), contestants).rows[0][2] == "0 of 1"


def test_plots_are_of_the_measure(contestants, tmp_path):
    pictures = draw(Comparison(contestants, None, "setting", "command"), tmp_path)
    assert pictures[0].title == "RMSE against rounds"
    assert pictures[0].reading.startswith("Lower and further left is better")
    assert not any("{" in picture.title + picture.reading for picture in pictures)
