"""What a comparison leaves behind, from the command line."""

import json
import shlex
import shutil
import sys

import pandas as pd
import pytest

from strata.cluster.humanise import humanise_seconds
from strata.cluster.report import delivery as report
from strata.cluster.report.results import read_run
from tests.helpers.comparisons import LABELS, ODD, PLOTS, command, copied, page_of


def test_the_page_is_self_contained_and_escapes_what_the_user_wrote(done):
    folder, _ = done
    text, page = (folder / "report" / "report.html").read_text(encoding="utf8"), page_of(folder / "report")
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "a", "b"}
    assert "http:" not in text.lower()
    assert "https:" not in text.lower()
    assert "url(" not in text
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(PLOTS)
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in images)
    assert any(row[0] == ODD for row in page.rows)
    assert "a&lt;b&gt;&amp;$^$.yaml" in text
    assert "prefers-color-scheme: dark" in text
    assert f"--against {LABELS[1]}" in page.text
    assert ["method.mu", "–", "0.5", "–"] in page.rows
    assert ["clients.count", "8"] in page.rows


def test_equal_runs_make_an_equal_report(done, tmp_path):
    folder, _ = done
    runs = sorted((folder / "runs").iterdir())
    for name in ("one", "two"):
        assert command("--report", *runs, "--output", tmp_path / name)[0] == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    live, again = page_of(folder / "report").rows, page_of(tmp_path / "one").rows
    assert {tuple(row[:8]) for row in again[1:4]} == {
        (label, *row[1:8]) for label, row in zip(("permfl", "fedprox", "fedavg"), live[1:4], strict=True)
    }


def test_what_was_measured_is_reported_only_where_it_is_asked_for(done, tmp_path):
    folder, _ = done
    runs = []
    for place, seconds in (("quick", 1.0), ("slow", 50.0)):
        for run in sorted((folder / "runs").glob("fed*seed*")):
            copy = shutil.copytree(run, tmp_path / place / run.name)
            lines = [json.loads(line) for line in (copy / "timing.jsonl").read_text().splitlines()]
            told = [
                {**line, "wall_s": seconds, "agents_wall_s": 0.5, "peak_bytes": 3e8 + line["round"]} for line in lines
            ]
            (copy / "timing.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in told))
        runs.append(sorted((tmp_path / place).iterdir()))
    reports = {}
    for asked in ([], ["--wall"]):
        for own in runs:
            out = tmp_path / f"report of {own[0].parent.name}{len(asked)}"
            code, printed = command("--report", *own, "--output", out, *asked)
            assert code == 0
            pages = [(out / name).read_text(encoding="utf8") for name in ("report.html", "results.md", "results.csv")]
            reports[own[0].parent.name, len(asked)] = [text.replace("/slow/", "/quick/") for text in [*pages, printed]]
    assert reports["quick", 0][:3] == reports["slow", 0][:3]
    assert "wall" not in reports["quick", 0][3]
    rounds = len((runs[0][0] / "timing.jsonl").read_text().splitlines())
    for place, seconds in (("quick", 1.0), ("slow", 50.0)):
        page, markdown, _, printed = reports[place, 1]
        total = humanise_seconds(rounds * (seconds + 0.5))
        cells = [total, humanise_seconds(seconds + 0.5), humanise_seconds(0.5 * rounds), "300 MB"]
        assert f"| {' | '.join(cells)} |" in markdown
        assert "".join(f"<td>{cell}</td>" for cell in cells) in page
        assert "--wall" in page
        assert "measured on the machines of the runs" in " ".join(printed.split())


def test_the_figures_are_a_csv_file_and_the_table_is_latex(done):
    folder, _ = done
    numbers = pd.read_csv(folder / "report" / "results.csv", index_col="method")
    assert numbers.index.tolist() == list(LABELS)
    rounds = [read_run(run).outcome for run in (folder / "runs").glob("permfl*")]
    assert numbers.loc["permfl", "flops"] == pytest.approx(sum(one["flops_total"] for one in rounds) / len(rounds))
    lines = (folder / "report" / "results.tex").read_text(encoding="utf8").splitlines()
    assert lines[0].startswith("\\begin{tabular}{lrrr")
    assert lines[2].startswith("method & PM & TM & GM & worst decile & ")
    assert [line.count(" & ") for line in lines[4 : 4 + len(LABELS)]] == [lines[2].count(" & ")] * len(LABELS)


def test_what_cannot_be_drawn_costs_neither_table_nor_report(done, tmp_path, monkeypatch, warned):
    folder, _ = done
    (done_run,) = (folder / "runs").glob("fedprox*seed0")
    run = shutil.copytree(done_run, tmp_path / "of mine")

    def broken(*anything):
        raise MemoryError("no room\nfor a figure")

    monkeypatch.setattr(report, "draw", broken)
    code, out = command("--report", run, "--output", tmp_path)
    assert code == 0
    (line,) = warned()
    assert line.startswith("warning: the plots could not be drawn (MemoryError: no room for a figure); the runs are")
    advised = line.partition("Another attempt: ")[2]
    assert shlex.split(advised) == ["strata", "compare", "--report", str(run)]
    assert "fedprox" in out
    assert page_of(tmp_path).rows[1][0] == "fedprox"


def test_a_broken_tracker_costs_a_line(done, tmp_path, monkeypatch):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")

    def tracked(config, rounds):
        config["tracking"]["wandb"] = "offline"

    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of wandb raises from here on
    code, out = command("--report", copied(run, tmp_path / "run", tracked), "--output", tmp_path / "out")
    assert code == 0
    assert "warning: Weights & Biases failed and is switched off" in out
    assert (tmp_path / "out" / "report.html").is_file()
