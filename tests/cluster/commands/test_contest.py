"""Comparisons from the command line, on runs of seconds; expected figures are recomputed from ``metrics.jsonl``."""

import json
import shutil
import statistics
from pathlib import Path

import pytest

from strata.cluster.cli import main
from tests.helpers.comparisons import LABELS, ODD, command, copied, page_of


def runs_of(folder, method):
    """Lines of ``metrics.jsonl`` of each seed, as plain JSON."""
    found = sorted((folder / "runs").glob(f"{method}-*/metrics.jsonl"), key=lambda path: path.parent.name[-1])
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in found]


def mean(values):
    return sum(values) / len(values)


def last_time(runs):
    return mean([rounds[-1]["virtual_s"] for rounds in runs])


def mean_straggling(runs):
    return mean([mean([one["straggling_s"] for one in rounds]) for rounds in runs])


def relative(value, base):
    return f"{100 * (value - base) / base:+.1f} %".replace("-0.0", "+0.0")


def test_the_table_holds_what_the_metric_files_say(done):
    folder, _ = done
    rows = {
        row[0]: dict(zip(page_of(folder / "report").rows[0], row, strict=True))
        for row in page_of(folder / "report").rows[:4]
    }
    base = runs_of(folder, "fedprox")
    for label, method in zip(LABELS, ("permfl", "fedprox", "fedavg"), strict=True):
        runs, row = runs_of(folder, method), rows[label]
        assert len(runs) == 2
        last = [100 * rounds[-1]["scores"]["GM"]["accuracy"] for rounds in runs]
        assert row["GM"] == f"{mean(last):.2f} ± {statistics.stdev(last):.2f} %"
        kind = "PM" if method == "permfl" else "GM"
        worst = [100 * rounds[-1]["scores"][kind]["worst_decile"] for rounds in runs]
        assert row["worst decile"].startswith(f"{mean(worst):.2f} ± ")
        moved = mean([sum(r[key] for r in rounds for key in r if key.startswith("bytes_")) for rounds in runs])
        number, unit = row["bytes"].split()
        assert float(number) * {"kB": 1e3, "MB": 1e6}[unit] == pytest.approx(moved, rel=0.01)
        number, unit = row["virtual time"].split()
        assert float(number) * {"ms": 1e-3, "s": 1}[unit] == pytest.approx(last_time(runs), rel=0.05)
        if runs != base:
            assert row[f"time vs {LABELS[1]}"] == relative(last_time(runs), last_time(base))
            assert row[f"straggling vs {LABELS[1]}"] == relative(mean_straggling(runs), mean_straggling(base))
    assert rows[LABELS[1]][f"time vs {LABELS[1]}"] == "–"
    assert rows[ODD]["PM"] == "–"


def test_the_terminal_shows_the_same_table_and_where_the_report_is(done):
    folder, out = done
    setting, rest = out.split("\n", 1)
    assert setting.startswith(
        "one setting, that of permfl: data fashion_mnist_12k · partition labels · model mclr · 8 cl"
    )
    assert setting.endswith("3 rounds · seeds 0, 1")
    table = rest.split("after the last round", 1)[1]
    for cell in page_of(folder / "report").rows[1]:
        for word in cell.split():
            assert word in table
    assert "report  report/report.html" in table


def test_without_a_baseline_there_are_no_relative_columns(done, tmp_path):
    folder, _ = done
    code, out = command("--report", *sorted((folder / "runs").glob("fed*")), "--output", tmp_path)
    assert code == 0
    assert page_of(tmp_path).rows[0][-1] == "FLOPs"
    assert " vs" not in out


def test_a_report_goes_to_a_fresh_folder_beside_the_runs(done, tmp_path):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")
    shutil.copytree(run, tmp_path / run.name)
    for _ in range(2):
        assert command("--report", tmp_path / run.name)[0] == 0
    assert len(list(tmp_path.glob("compare-*/report.html"))) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fedavg", "fedproks"], "fedproks: algorithm=fedproks: no such method. Did you mean fedprox?"),
        (["fedavg", "fedavg"], "fedavg: it is named twice"),
        (["fedavg", "fedprox:mu"], "fedprox:mu: expected METHOD:key=value"),
        (["fedavg", "fedprox:method.moo=1"], "fedprox:method.moo=1: method.moo: no such key"),
        (["fedavg", "fedprox", "method.moo=1"], "method.moo: no such key, in fedavg, fedprox. Did you mean method.mu?"),
        (["fedavg", "fedprox:clients.count=9"], "clients.count is 9 in fedprox:clients.count=9 and 40 in fedavg"),
        (["fedavg", "algorithm=hsgd"], "algorithm=hsgd: name the methods as words"),
        (["fedavg", "permfl", "--against", "hsgd"], "--against hsgd: expected one of those compared: fedavg, permfl."),
        (["fedavg", "--output", "file/below"], "file/below: nothing can be written there"),
        (["fedavg", "output=file"], "file: nothing can be written there"),
        (["--report", "nowhere"], "nowhere: expected the folder of a run"),
        (["--report", "empty"], "empty: none of its 0 rounds was evaluated"),
        (["--report", "other"], "other/metrics.jsonl: not the rounds of a run"),
        (["fedavg", "--report", "empty"], "--report reads runs that exist; leave out fedavg."),
        (["rounds=3"], "compare: name the methods to compare"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("strata.cluster.run.runner.run_all", lambda *anything: pytest.fail("a run was started"))
    Path("file").touch()
    for name, lines in (("empty", ""), ("other", '{"round": 1}\n')):
        Path(name).mkdir()
        Path(name, "config.yaml").write_text("algorithm: fedavg\nseed: 0\n")
        Path(name, "metrics.jsonl").write_text(lines)
    assert main(["compare", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {expected}")


def test_runs_of_mixed_settings_and_equal_runs_are_refused(done, tmp_path, capsys):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")

    def larger(config, rounds):
        config["clients"]["count"] = 9

    def elsewhere(config, rounds):
        config["runtime"], config["checkpoint"]["every"] = "ray", 1

    assert main(["compare", "--report", str(run), str(copied(run, tmp_path / "larger", larger))]) == 1
    assert "clients.count is 9 in" in capsys.readouterr().err
    assert main(["compare", "--report", str(run), str(copied(run, tmp_path / "same", elsewhere))]) == 1
    assert "are the same run: equal settings, equal seed" in capsys.readouterr().err


def test_unfinished_runs_and_missing_seeds_are_said(done, tmp_path, warned):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")
    other = sorted((folder / "runs").glob("permfl*"))
    short = copied(run, tmp_path / "short", lambda config, rounds: rounds.pop())
    assert command("--report", *other, short, "--output", tmp_path / "out")[0] == 0
    assert warned() == [
        f"warning: {short}: 2 of 3 rounds are done.",
        "warning: the seeds differ: permfl [0, 1]; fedprox [0].",
    ]
