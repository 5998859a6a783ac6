"""When a run is evaluated and saved, by rounds and by virtual seconds; what it tells of servers that do not wait."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from strata.cluster.run.runner import run_one
from strata.cluster.run.summary import RunSummary
from strata.cluster.sinks.display import PlainDisplay
from strata.cluster.sinks.jsonl import METRICS, read_metrics
from strata.cluster.sinks.metrics import metrics_of
from strata.cluster.sinks.views import summary_tables
from strata.cluster.sinks.weights_and_biases import AXES
from strata.engine.state.checkpoint import found, round_of
from tests.helpers.records import record
from tests.helpers.small import small

ROUND_S = 0.5  # of every round: nothing else takes time
SETTING = ("rounds=9", "delays=none", f"delays.server_latency_s={ROUND_S}", "model=mclr", "checkpoint.keep=99")
PLANS = [
    (("every=0", "every_s=1"), [2, 4, 6, 8, 9]),  # at 1, 2, 3 and 4 s, and the last
    (("every=0", "every_s=1.2"), [3, 5, 8, 9]),  # behind 1.2, 2.4 and 3.6 s
    (("every=4", "every_s=1.2"), [3, 4, 5, 8, 9]),
    (("every=4",), [4, 8, 9]),
    (("every=0", "every_s=0.1"), list(range(1, 10))),
]


@pytest.mark.parametrize(("plan", "rounds"), PLANS, ids=lambda part: " ".join(map(str, part)))
def test_models_are_evaluated_and_saved_by_rounds_and_by_virtual_seconds(tmp_path, plan, rounds):
    words = [f"{group}.{word}" for group in ("evaluation", "checkpoint") for word in plan]
    run_one(small("fedavg", *SETTING, *words), tmp_path, PlainDisplay(Console(file=io.StringIO())))
    assert [plain["round"] for plain in read_metrics(tmp_path / METRICS) if plain["scores"]] == rounds
    assert [round_of(path) for path in found(tmp_path / "checkpoints")] == rounds


def test_without_rounds_and_seconds_only_the_end_is_evaluated_and_nothing_is_saved(tmp_path):
    words = ("evaluation.every=0", "checkpoint.every=0")
    run_one(small("fedavg", *SETTING, *words), tmp_path, PlainDisplay(Console(file=io.StringIO())))
    assert [plain["round"] for plain in read_metrics(tmp_path / METRICS) if plain["scores"]] == [9]
    assert found(tmp_path / "checkpoints") == []


def test_a_summary_tells_how_stale_uploads_were_and_what_was_dropped():
    summary = RunSummary(Path("x"))
    assert "staleness" not in summary.plain()
    summary.add(record(1, metrics={"async/staleness/0": 3.0, "async/stale": 0.0, "async/idle_s": 1.5}))
    summary.add(record(2, metrics={"async/staleness/4": 1.0, "async/stale": 2.0, "async/idle_s": 0.25}))
    plain = summary.plain()
    assert (plain["staleness"], plain["stale"], plain["idle_s"]) == (4 / 4, 2.0, 1.75)
    console = Console(file=io.StringIO(), width=120)
    console.print(*summary_tables(plain))
    assert "1.00 (2 uploads dropped)" in console.file.getvalue()


def test_a_summary_tells_the_last_epsilon():
    summary = RunSummary(Path("x"))
    for round, epsilon in ((1, 1.25), (2, 2.5)):
        summary.add(record(round, metrics={"privacy/epsilon": epsilon, "privacy/delta": 0.01}))
    summary.add(record(3))  # was not evaluated
    assert (summary.plain()["epsilon"], summary.plain()["delta"]) == (2.5, 0.01)
    console = Console(file=io.StringIO(), width=120)
    console.print(*summary_tables(summary.plain()))
    assert "ε = 2.5 at δ = 0.01" in console.file.getvalue()
    assert "epsilon" not in RunSummary(Path("x")).plain()


def test_what_is_told_of_servers_that_do_not_wait_has_a_group_of_its_own():
    metrics = metrics_of(
        record(3, metrics={"async/staleness/2": 1.0, "agents/reward": 0.5, "privacy/epsilon": 3, "teams": 2})
    )
    assert (metrics["async/staleness/2"], metrics["agents/reward"], metrics["method/teams"]) == (1.0, 0.5, 2)
    assert metrics["privacy/epsilon"] == 3
    assert {"async/*", "privacy/*"} <= set(AXES["round"])
