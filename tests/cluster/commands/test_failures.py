"""A run that fails keeps none of the others from being made: seeds, and methods side by side."""

import re

import pytest

from strata.cluster.cli import main
from strata.cluster.commands import contest
from strata.cluster.run import runner
from strata.engine.errors import TrainingError
from tests.helpers.comparisons import command, page_of
from tests.helpers.small import small_overrides

DIVERGING = "fedavg:method.lr=1e38,method.batch_size=8"


def words(folder, *more):
    return small_overrides("x", "rounds=2", f"output={folder}/runs", *more)


@pytest.fixture
def broken_seed(monkeypatch):
    """Breaks the run of seed 1, at its start."""
    plain = runner.run_one

    def run_one(config, *others, **named):
        if config.seed == 1:
            raise TrainingError("client 3, round 2: [loss] is nan.")
        return plain(config, *others, **named)

    monkeypatch.setattr(runner, "run_one", run_one)


def made(folder):
    """Of each run that has made its rounds: method and seed."""
    found = (folder / "runs").glob("*/metrics.jsonl")
    whole = [path.parent.name for path in found if len(path.read_text().splitlines()) == 2]
    return sorted(re.sub(r"-\d+-\d+-", " ", name) for name in whole)


def test_other_seeds_are_run(tmp_path, broken_seed, capsys):
    assert main(["run", "fedavg", *words(tmp_path, "seeds=[0,1,2]")]) == 1
    assert made(tmp_path) == ["fedavg seed0", "fedavg seed2"]
    tables = capsys.readouterr().out.partition("accuracy over 2 seeds")[2]
    assert re.search(r"seed 1 +│ client 3, round 2: \[loss\] is nan\.", tables)


def test_a_single_run_ends_with_its_error(tmp_path, broken_seed, capsys):
    assert main(["run", "fedavg", *words(tmp_path, "seed=1")]) == 1
    out, err = capsys.readouterr()
    assert err == "error: client 3, round 2: [loss] is nan.\n"
    assert "failed" not in out


def test_other_methods_are_run_and_reported(tmp_path, warned):
    report = tmp_path / "report"
    given = [DIVERGING, "fedprox", *words(tmp_path), "--against", DIVERGING, "--target", DIVERGING]
    code, out = command(*given, "--output", report)
    assert code == 1
    assert made(tmp_path) == ["fedprox seed0"]
    assert [line.partition(":")[2].strip() for line in warned() if "all of its runs failed" in line] == [
        f"--against {DIVERGING}: all of its runs failed, so there are no columns relative to it.",
        f"--target {DIVERGING}: all of its runs failed, so there is no table of what it took.",
    ]
    row = next(row for row in page_of(report).rows if row[0] == f"{DIVERGING}, seed 0")
    assert re.fullmatch(r"client \d, round 1: loss is (nan|inf) after step \d\. .*", row[1])
    assert row[1] in (report / "results.md").read_text()
    assert "failed: 1 of the runs" in out


def test_a_seed_less_is_reported_as_such(tmp_path, broken_seed):
    code, _ = command("fedavg", *words(tmp_path, "seeds=[0,1]"), "--output", tmp_path / "report")
    assert code == 1
    rows = page_of(tmp_path / "report").rows
    assert ["fedavg, seed 1", "client 3, round 2: [loss] is nan."] in rows
    assert [row[:2] for row in rows if str(tmp_path) in row[-1]] == [["fedavg", "0"]]


def test_where_nothing_is_left_there_is_no_report(tmp_path, broken_seed):
    code, out = command("fedavg", *words(tmp_path, "seed=1"), "--output", tmp_path / "report")
    assert code == 1
    assert "failed: 1 of the runs" in out
    assert not (tmp_path / "report").exists()


def test_an_interrupt_ends_all(tmp_path, monkeypatch):
    asked = []

    def run_all(config, display):
        asked.append(config.algorithm)
        return [runner.RunSummary(tmp_path, exit_code=runner.INTERRUPTED)]

    monkeypatch.setattr(contest, "run_all", run_all)
    assert command("fedavg", "fedprox", *words(tmp_path))[0] == 130
    assert asked == ["fedavg"]
