"""Comparisons from the command line, on runs of seconds; expected figures are recomputed from ``metrics.jsonl``."""

import contextlib
import io
import json
import shutil
import statistics
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from strata.cluster.cli import main
from strata.cluster.commands.entries import resolve
from strata.cluster.report import delivery
from strata.cluster.report.panels import COLOURS, rolling
from strata.cluster.report.results import change, grouped, read_run
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError, StrataWarning
from tests.helpers.small import small_overrides

ODD = "a<b>&$^$.yaml"  # markup in HTML, and a broken formula in matplotlib
LABELS = ["permfl", "fedprox:method.mu=0.5", ODD]
FAST = ["method.team_rounds=2", "method.local_steps=2", "method.batch_size=16"]
PLOTS = ["accuracy-bytes.png", "accuracy-flops.png", "accuracy-rounds.png", "accuracy-time.png", "straggling.png"]


def command(*words):
    """Exit code, and what was printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["compare", *map(str, words)])
    return code, out.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A comparison of three entries over two seeds: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / ODD).write_text("algorithm: fedavg\nrounds: 99\nmethod:\n  lr: 0.05\n")
    words = [*small_overrides("x", "seeds=[0,1]", "output=runs"), *FAST]
    with contextlib.chdir(folder):
        code, out = command(*LABELS, *words, "--against", LABELS[1], "--output", "report")
    assert code == 0
    return folder, out


@pytest.fixture
def warned(capsys):
    """Returns the lines of warnings; the command prints them on stderr, where they would be errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", StrataWarning)
        yield lambda: capsys.readouterr().err.splitlines()


def runs_of(folder, method):
    """Lines of ``metrics.jsonl`` of each seed, as plain JSON."""
    found = sorted((folder / "runs").glob(f"{method}-*/metrics.jsonl"), key=lambda path: path.parent.name[-1])
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in found]


class Page(HTMLParser):
    """Tags with their attributes, and the cells of the tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text, self._cell = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self._cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf8"))


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
    table = rest.split("after the last round")[1]
    for cell in page_of(folder / "report").rows[1]:
        for word in cell.split():
            assert word in table
    assert "report  report/report.html" in table


def test_without_a_baseline_there_are_no_relative_columns(done, tmp_path):
    folder, _ = done
    code, out = command("--report", *sorted((folder / "runs").glob("fed*")), "--output", tmp_path)
    assert code == 0
    assert page_of(tmp_path).rows[0][-1] == "bytes"
    assert " vs" not in out


def test_pictures_open_and_show_a_line_of_every_method(done):
    folder, _ = done
    assert sorted(path.name for path in (folder / "report").glob("*.png")) == PLOTS
    for name in PLOTS:
        with Image.open(folder / "report" / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[1] >= 1200
        # Below the legend, which would show the colours of an empty plot as well.
        drawn = pixels[int(0.13 * len(pixels)) :]
        for colour in COLOURS[: len(LABELS)]:
            rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
            assert (abs(drawn.astype(int) - rgb).max(axis=-1) < 12).sum() > 100, f"{name} has no line in {colour}"


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


def test_a_report_goes_to_a_fresh_folder_beside_the_runs(done, tmp_path):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")
    shutil.copytree(run, tmp_path / run.name)
    for _ in range(2):
        assert command("--report", tmp_path / run.name)[0] == 0
    assert len(list(tmp_path.glob("compare-*/report.html"))) == 2


def copied(run_dir, target, change):
    """A copy of a run with a changed configuration or other rounds."""
    shutil.copytree(run_dir, target)
    config = yaml.safe_load((target / "config.yaml").read_text())
    rounds = [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]
    change(config, rounds)
    (target / "config.yaml").write_text(yaml.safe_dump(config))
    (target / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rounds))
    return target


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


def test_rewards_of_agents_are_drawn_where_there_are_any(done, tmp_path):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")
    (other,) = (folder / "runs").glob("permfl*seed0")

    def reward(config, rounds):
        for number, one in enumerate(rounds):
            one["metrics"] = {"agents/intensity/reward": None if number == 1 else 0.5, "agents/intensity/loss": 1.0}

    rewarded = copied(run, tmp_path / "rewarded", reward)
    assert command("--report", other, rewarded, "--output", tmp_path / "out")[0] == 0
    with Image.open(tmp_path / "out" / "agents-reward.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    second = np.array([0xD5, 0x5E, 0x00])
    assert (abs(pixels[int(0.13 * len(pixels)) :] - second).max(axis=-1) < 12).sum() > 100
    assert "Rewards of the agents" in page_of(tmp_path / "out").text


def test_a_rolling_mean_looks_back():
    values = np.array([[3.0, 1.0, 2.0, 6.0]])
    assert rolling(values, 2).tolist() == [[3.0, 2.0, 1.5, 4.0]]
    assert rolling(values, 1).tolist() == values.tolist()


def test_relative_change():
    assert change(75.0, 100.0) == "-25.0 %"
    assert change(99.9999, 100.0) == "+0.0 %"
    assert change(1.0, 0.0) == "–"


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


def test_commas_within_a_value_do_not_end_it():
    configs, _ = resolve(["fedavg", "fedavg:method.lr=0.3,method.epochs=2"])
    assert [(c.method.lr, c.method.epochs) for c in configs.values()] == [(0.01, 1), (0.3, 2)]
    with pytest.raises(ConfigError, match=r"model.hidden is \[3, 4\]"):
        resolve(["fedavg", "fedavg:model.hidden=[3,4],method.lr=0.3"])


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
    monkeypatch.setattr("strata.cluster.commands.contest.run_all", lambda *anything: pytest.fail("a run was started"))
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


def test_what_cannot_be_drawn_costs_neither_table_nor_report(done, tmp_path, monkeypatch, warned):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")

    def broken(*anything):
        raise MemoryError("no room\nfor a figure")

    monkeypatch.setattr(delivery, "draw", broken)
    code, out = command("--report", run, "--output", tmp_path)
    assert code == 0
    (line,) = warned()
    assert line.startswith("warning: the plots could not be drawn (MemoryError: no room for a figure); the runs are")
    assert line.endswith(f"strata compare --report {run}")
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
