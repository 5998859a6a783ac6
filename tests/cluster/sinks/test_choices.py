"""What clients of a search ended with: a run of seconds, whose files are recomputed from ``metrics.jsonl``."""

import contextlib
import csv
import io
import json
import math
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from strata.cluster.cli import main
from strata.cluster.run.runner import resume, run_all
from strata.cluster.sinks.by_client import calls_by_round
from strata.cluster.sinks.choices import TABLE, chooses, gather, notation, read_architectures, slot_notation
from strata.cluster.sinks.choices_plot import draw, present
from strata.cluster.sinks.display import PlainDisplay
from strata.engine.errors import StrataError
from strata.engine.method.calls import CallTable
from strata.engine.method.find import load_method
from tests.helpers.records import call, record
from tests.helpers.small import small

WORDS = ("data.limit=240", "clients.count=4", "method.epochs=1", "clients.participation=0.5")


def config_of(folder, *words):
    overrides = (*WORDS, "rounds=5", "checkpoint.every=2", "evaluation.every=5", "method.memory_gib=[0.01, 0.02]")
    return small("perfedrlnas", *overrides, f"output={folder}", *words)


def quiet():
    out = io.StringIO()
    return PlainDisplay(Console(file=out, width=120, highlight=False)), out


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a run, and what was printed."""
    display, out = quiet()
    (summary,) = run_all(config_of(tmp_path_factory.mktemp("runs"), "agents.policy=rllib"), display)
    return summary.run_dir, out.getvalue()


def rounds_of(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def last_calls(run_dir):
    """By client: the round and the call that came last, and how many there were."""
    calls, count = {}, {}
    for line in rounds_of(run_dir):
        for one in calls_by_round(run_dir)[line["round"]]:
            calls[one["client"]] = (line, one)
            count[one["client"]] = count.get(one["client"], 0) + 1
    return calls, count


def rows_of(run_dir):
    with (run_dir / TABLE).open() as file:
        return {int(row["client"]): row for row in csv.DictReader(file)}


def test_the_csv_holds_the_last_choice_of_every_client(done):
    run_dir, _ = done
    rows, (calls, count) = rows_of(run_dir), last_calls(run_dir)
    assert list(rows) == sorted(calls)
    for client, (line, one) in calls.items():
        row = rows[client]
        assert (int(row["round"]), int(row["calls"])) == (line["round"], count[client])
        assert (row["device"], row["status"]) == (one["device"], one["status"])
        for name, value in one["metrics"].items():
            assert float(row[name]) == value
        assert float(row["entropy_nats"]) == line["metrics"][f"agents/client_{client}/entropy"]
        seconds = one["latency_s"] + one["download_s"] + one["compute_s"] + one["upload_s"]
        assert float(row["total_s"]) == pytest.approx(seconds)
    header = list(next(iter(rows.values())))
    assert header[:4] == ["client", "device", "round", "calls"]
    assert header.index("stage1.width") < header.index("stage2.width") < header.index("entropy_nats")
    assert header.index("entropy_nats") < header.index("budget_mib")
    assert all(float(row["memory_mib"]) <= float(row["budget_mib"]) for row in rows.values())


def test_a_run_ends_with_the_table_and_where_the_rest_is(done):
    run_dir, out = done
    table = out.split("what was chosen last for each client")[1]
    for client, row in rows_of(run_dir).items():
        (line,) = [line for line in table.splitlines() if line.split()[:2] == [str(client), row["device"]]]
        assert f"{100 * float(row['accuracy']):.2f} %" in line
        assert f"{float(row['memory_mib']):.1f} / {float(row['budget_mib']):.1f} MiB" in line
        assert f"{float(row['entropy_nats']):.2f}" in line
        first = "/".join(row[name] for name in row if name.startswith("stage1."))
        assert f" {first} " in line
    assert "architecture: stage1 width/depth/kernel · stage2" in table
    assert f"every number: {run_dir / 'architectures.csv'}" in out
    assert f"drawn: {run_dir / 'architectures.png'}" in out


def test_the_picture_opens(done):
    with Image.open(done[0] / "architectures.png") as image:
        assert image.size[0] >= 1200
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20


def test_a_resumed_run_leaves_the_same_csv(done, tmp_path):
    run_dir, _ = done
    (other,) = run_all(config_of(tmp_path, "agents.policy=rllib", "rounds=3"), quiet()[0])
    before = (other.run_dir / TABLE).read_bytes()
    *_, newest = sorted((other.run_dir / "checkpoints").glob("round-*"))
    shutil.rmtree(newest)  # so that round 3 is repeated, and its first line in metrics.jsonl dropped
    (other.run_dir / TABLE).unlink()
    resume(other.run_dir, {"rounds": 5}, quiet()[0])
    assert (other.run_dir / TABLE).read_bytes() == (run_dir / TABLE).read_bytes() != before


def test_the_command_makes_the_same_files_from_the_folder_alone(done, tmp_path, capsys):
    run_dir, printed = done
    for name in ("config.yaml", "metrics.jsonl"):
        shutil.copy(run_dir / name, tmp_path)
    shutil.copytree(run_dir / "clients", tmp_path / "clients")
    assert main(["architectures", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for name in ("architectures.csv", "architectures.png"):
        assert (tmp_path / name).read_bytes() == (run_dir / name).read_bytes()
    assert out.split("drawn")[0].replace(str(tmp_path), str(run_dir)) in printed


def test_without_agents_there_is_no_entropy(tmp_path):
    display, out = quiet()
    (summary,) = run_all(config_of(tmp_path, "agents.policy=random", "rounds=1", "method.memory_gib=[]"), display)
    rows = rows_of(summary.run_dir)
    assert {row["entropy_nats"] for row in rows.values()} == {""}
    assert "budget_mib" not in next(iter(rows.values()))
    assert "nats" not in out.getvalue()
    assert (summary.run_dir / "architectures.png").is_file()


def test_other_methods_end_as_before(tmp_path, capsys):
    display, out = quiet()
    (summary,) = run_all(small("fedavg", "rounds=1", "data.limit=240", f"output={tmp_path}"), display)
    assert "architecture" not in out.getvalue()
    assert not list(summary.run_dir.glob("architectures*"))
    assert main(["architectures", str(summary.run_dir)]) == 1
    assert "no client of this run of fedavg reports an architecture" in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(StrataError, match=r"config\.yaml is missing"):
        read_architectures(tmp_path)
    (tmp_path / "config.yaml").write_text("algorithm: perfedrlnas\n")
    with pytest.raises(StrataError, match=r"metrics\.jsonl is missing"):
        read_architectures(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"round": 1}\n')
    with pytest.raises(StrataError, match=r"clients/calls is missing"):
        read_architectures(tmp_path)
    (tmp_path / "clients" / "calls").mkdir(parents=True)
    with pytest.raises(StrataError, match="not the rounds of a run"):
        read_architectures(tmp_path)


def by_hand(round, choices, entropies):
    calls = [
        call(client, metrics={"stage1.width": width, "last.width": 64.0, "accuracy": 0.5})
        for client, width in choices.items()
    ]
    metrics = {f"agents/client_{client}/entropy": value for client, value in entropies.items()}
    return {**vars(record(round)), "calls": list(CallTable.of(calls).rows()), "metrics": metrics}


def gathered(run_dir, rounds):
    return gather(Path(run_dir), load_method("perfedrlnas"), rounds, {one["round"]: one["calls"] for one in rounds})


def test_shares_and_entropies_by_hand():
    rounds = [
        by_hand(1, {0: 8.0, 1: 8.0}, {0: 4.0, 1: 2.0}),
        by_hand(2, {1: 16.0, 2: 16.0}, {1: 1.0, 2: 4.0}),
        by_hand(3, {3: 16.0}, {3: None}),  # a NaN, as it is stored
    ]
    found = gathered("x", rounds)
    assert found.shares("stage1.width", found.clients) == {8.0: 0.25, 16.0: 0.75}
    assert found.shares("last.width", found.clients) == {64.0: 1.0}
    assert found.classes == [found.clients]  # nobody told a budget
    assert found.uniform == pytest.approx(math.log(2))  # one of two widths, and no choice
    assert [(one.round, one.calls) for one in found.clients.values()] == [(1, 1), (2, 2), (2, 1), (3, 1)]
    # Round 1: (4 + 2) / 2. Round 2: client 0 as before, (4 + 1 + 4) / 3.
    assert present(found.entropies) == {1: 3.0, 2: 3.0}
    assert found.reported == ["accuracy"]


def test_clients_stand_by_thirds_of_their_budgets_where_these_differ(tmp_path):
    budgets = {0: 9.0, 1: 3.0, 2: 7.0, 3: 1.0, 4: 5.0, 5: 8.0, 6: 2.0}
    widths = {client: 16.0 if budget > 6 else 8.0 for client, budget in budgets.items()}

    def rounds(told):
        calls = [
            call(client, metrics={"stage1.width": widths[client], "budget_mib": budget})
            for client, budget in told.items()
        ]
        return [{**vars(record(1)), "calls": list(CallTable.of(calls).rows()), "metrics": {}}]

    found = gathered(tmp_path, rounds(budgets))
    assert [sorted(one) for one in found.classes] == [[3, 6], [1, 4], [0, 2, 5]]
    shares = [found.shares("stage1.width", one) for one in found.classes]
    assert shares == [{8.0: 1.0, 16.0: 0.0}, {8.0: 1.0, 16.0: 0.0}, {8.0: 0.0, 16.0: 1.0}]
    assert len(gathered(tmp_path, rounds(dict.fromkeys(budgets, 4.0))).classes) == 1
    with Image.open(draw(found, tmp_path / "chosen.png")) as image:
        assert image.height > 1000  # a panel for each third


def test_no_more_than_twenty_rows_in_the_terminal():
    rounds = [by_hand(1, dict.fromkeys(range(30), 8.0), {})]
    found = gathered("run", rounds)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        Console(width=120).print(found.table())
    clients = [line.split()[0] for line in out.getvalue().splitlines() if "laptop" in line]
    assert clients == [str(client) for client in range(20)]
    assert found.reading()[-2] == f"10 more clients, and every number: {Path('run') / TABLE}"
    assert len(found.csv().splitlines()) == 31


def test_how_architectures_are_written():
    options = {"resolution": 32.0, "stage1.width": 16.0, "stage1.depth": 2.0, "last.width": 64.0}
    assert notation(options) == "32 16/2 64"
    assert slot_notation(list(options)) == "resolution · stage1 width/depth · last width"


def test_methods_say_which_of_their_numbers_are_choices():
    searching, other = load_method("perfedrlnas"), load_method("fedavg")
    assert chooses(searching)
    assert not chooses(other)
    names = ["resolution", "stem.width", "stage2.expansion", "last.width"]
    assert all(map(searching.is_choice, names))
    assert not any(map(searching.is_choice, ["accuracy", "batch_size", "memory_mib", "conflict"]))
