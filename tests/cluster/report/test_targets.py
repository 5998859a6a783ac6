"""What methods needed to a target accuracy, on rounds written by hand: every figure can be counted off."""

import contextlib
import io
import json

import pytest

from strata.cluster.cli import main
from strata.cluster.report.comparison import Comparison
from strata.cluster.report.frame import rounds_frame
from strata.cluster.report.markdown import escaped, results
from strata.cluster.report.results import Contestant, Run
from strata.cluster.report.targets import Goal, goal_of, reach, times
from strata.engine.config.load import load_config, to_yaml
from strata.engine.errors import ConfigError
from strata.engine.method.calls import CallTable
from strata.engine.rounds.scores import to_plain
from tests.helpers.records import record, scores

A, B = Goal("0.8", 0.8), Goal("common")


def rounds_of(accuracies, moved, flops, kinds=("GM",)):
    """A round an accuracy, None where it was not evaluated: ``moved`` bytes, ``flops`` and 2 virtual seconds each."""
    return [
        record(
            number,
            virtual_s=2.0 * number,
            bytes_client_down=moved,
            bytes_client_up=0,
            bytes_team_down=0,
            bytes_team_up=0,
            flops=flops,
            calls=CallTable.of([]),
            scores={} if value is None else dict.fromkeys(kinds, scores(value)),
        )
        for number, value in enumerate(accuracies, 1)
    ]


def run_of(seed, records, folder="run"):
    return Run(folder, {"seed": seed, "algorithm": "x"}, rounds_frame(map(to_plain, records)))


def method(label, *curves, moved=100, flops=10, kinds=("GM",)):
    """A method with a run a curve, of the seeds 0, 1, …"""
    runs = [run_of(seed, rounds_of(curve, moved, flops, kinds)) for seed, curve in enumerate(curves)]
    return Contestant(label, runs)


def rows(found):
    return {row[0]: dict(zip(found.headings, row, strict=True)) for row in found.rows}


def test_seeds_reach_an_absolute_target_in_different_rounds():
    quick = method("quick", [0.5, 0.8, 0.9], [0.5, 0.7, 0.85])  # rounds 2 and 3
    dear = method("dear", [0.9, 0.9, 0.9], [0.81, 0.1, 0.1], moved=1000, flops=50)  # round 1, whatever comes later
    half = method("half", [0.5, 0.6, 0.7], [0.5, 0.6, 0.95], flops=1)  # round 3 of one seed alone
    never = method("never", [0.5, 0.6, 0.7999], [0.1, 0.2, 0.3])
    found = reach(A, [quick, dear, half, never])
    table = rows(found)
    assert [row["seeds"] for row in table.values()] == ["2 of 2", "2 of 2", "1 of 2", "0 of 2"]
    assert [row["rounds"] for row in table.values()] == ["2.5", "1", "3", "–"]
    assert [row["virtual time"] for row in table.values()] == ["5.0 s", "2.0 s", "6.0 s", "–"]
    assert [row["bytes"] for row in table.values()] == ["250 B", "1.00 kB", "300 B", "–"]
    assert [row["FLOPs"] for row in table.values()] == ["25 FLOP", "50 FLOP", "3 FLOP", "–"]
    assert [row["× fewer bytes"] for row in table.values()] == ["4.00 ×", "1.00 ×", "3.33 ×", "–"]
    assert [row["× fewer FLOPs"] for row in table.values()] == ["2.00 ×", "1.00 ×", "16.67 ×", "–"]
    assert found.title == "until an accuracy of 80.00 %"
    assert found.numbers("quick") == {
        "target_accuracy": 0.8,
        "target_seeds": 2.0,
        "target_rounds": 2.5,
        "target_virtual_s": 5.0,
        "target_bytes": 250.0,
        "target_flops": 25.0,
        "target_fewer_bytes": 4.0,
        "target_fewer_flops": 2.0,
    }
    assert found.numbers("never") == {"target_accuracy": 0.8, "target_seeds": 0.0}


def test_rounds_without_evaluation_cost_but_do_not_count_as_reached():
    found = reach(A, [method("x", [None, 0.5, None, None, 0.9])])
    assert rows(found)["x"]["rounds"] == "5"
    assert rows(found)["x"]["bytes"] == "500 B"


def test_the_common_target_is_what_all_converging_methods_reach_seed_by_seed():
    one = method("one", [0.5, 0.86, 0.9], [0.5, 0.8, 0.7])  # best 0.9 and 0.8
    two = method("two", [0.3, 0.84, 0.85], [0.79, 0.81, 0.82])  # best 0.85 and 0.82
    lost = method("lost", [0.7, 0.1, 0.1], [0.7, 0.1, 0.1])  # 0.7: more than 10 points below 0.85
    found = reach(B, [one, two, lost])
    assert found.by_seed == {0: 0.85, 1: 0.8}
    assert found.apart == ["lost"]
    assert [row["seeds"] for row in rows(found).values()] == ["2 of 2", "2 of 2", "0 of 2"]
    assert [row["rounds"] for row in rows(found).values()] == ["2", "2.5", "–"]
    assert "lost" in found.caption
    assert found.title == "until the common accuracy: 82.50 ± 3.54 %"


def test_a_method_within_ten_points_takes_part_in_the_common_target():
    found = reach(B, [method("best", [0.9]), method("worst", [0.81])])
    assert found.apart == []
    assert found.by_seed == {0: 0.81}


def test_the_best_accuracy_of_a_method_is_a_target():
    base = method("base", [0.5, 0.7, 0.6], [0.5, 0.6, 0.65])
    other = method("other", [0.72, 0.1, 0.1], [0.1, 0.1, 0.64])
    found = reach(Goal("base"), [base, other])
    assert found.by_seed == {0: 0.7, 1: 0.65}
    assert [row["rounds"] for row in rows(found).values()] == ["2.5", "1"]
    assert [row["seeds"] for row in rows(found).values()] == ["2 of 2", "1 of 2"]
    assert found.title == "until the best accuracy of base: 67.50 ± 3.54 %"


def test_a_seed_that_the_named_method_was_not_run_with_has_no_target():
    found = reach(Goal("base"), [method("base", [0.5]), method("other", [0.6], [0.6])])
    assert found.by_seed == {0: 0.5}
    assert rows(found)["other"]["seeds"] == "1 of 2"


def test_the_most_personal_kind_of_model_is_looked_at():
    both = method("both", [0.9, 0.9], kinds=("GM", "PM"))
    (run,) = both.runs
    run.rounds["PM.accuracy"] = [0.4, 0.85]
    assert run.rounds["GM.accuracy"].tolist() == [0.9, 0.9]
    found = reach(A, [both, method("global", [0.9, 0.9])])
    assert [(row["model"], row["rounds"]) for row in rows(found).values()] == [("PM", "2"), ("GM", "1")]


def test_a_method_that_moves_nothing_is_beyond_factors():
    found = reach(A, [method("talks", [0.9]), method("silent", [0.9], moved=0)])
    assert [row["× fewer bytes"] for row in rows(found).values()] == ["1.00 ×", "∞ ×"]
    assert "target_fewer_bytes" not in found.numbers("silent")
    assert [row["× fewer bytes"] for row in rows(reach(A, [method("silent", [0.9], moved=0)])).values()] == ["–"]
    assert [times(value) for value in (7.414, 99.94, 1234.5)] == ["7.41 ×", "99.94 ×", "1,234 ×"]


def test_targets_are_read_as_they_are_written():
    assert goal_of("0.8", ["a"]) == Goal("0.8", 0.8)
    assert goal_of("common", ["a"]) == Goal("common")
    assert goal_of("a", ["a"]) == Goal("a")
    with pytest.raises(ConfigError, match=r"--target 80: expected an accuracy between 0 and 1"):
        goal_of("80", ["a"])
    with pytest.raises(ConfigError, match=r"--target fedavgg: .* compared: fedavg\. Did you mean fedavg\?"):
        goal_of("fedavgg", ["fedavg"])


@pytest.mark.parametrize("target", ["nan", "hsgd", "-0.1"])
def test_a_wrong_target_is_said_before_anything_runs(target, monkeypatch, capsys):
    monkeypatch.setattr("strata.cluster.commands.contest.run_all", lambda *anything: pytest.fail("a run was started"))
    assert main(["compare", "fedavg", "permfl", f"--target={target}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --target {target}: expected")


@pytest.fixture
def folders(tmp_path):
    """Folders of two methods over two seeds, as runs leave them."""
    made = []
    for name, moved in (("fedavg", 100), ("fedprox", 300)):
        for seed, curve in enumerate(([0.5, 0.8, 0.9], [0.5, 0.7, 0.85])):
            folder = tmp_path / "runs" / f"{name}-seed{seed}"
            folder.mkdir(parents=True)
            config = load_config(name, [f"seed={seed}", "rounds=3", "tracking.wandb=disabled"])
            (folder / "config.yaml").write_text(to_yaml(config))
            lines = (json.dumps(to_plain(one)) + "\n" for one in rounds_of(curve, moved, 10))
            (folder / "metrics.jsonl").write_text("".join(lines))
            made.append(str(folder))
    return made


def reported(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["compare", *words]) == 0
    return out.getvalue()


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_table_reaches_terminal_page_and_markdown(folders, tmp_path):
    out = reported("--report", *folders, "--target", "0.8", "--output", str(tmp_path / "report"))
    assert "until an accuracy of 80.00 %" in out
    text = (tmp_path / "report" / "results.md").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    tables = [cells(line) for line in text.splitlines() if line.startswith("|")]
    main_table, targets = tables[:4], tables[4:]
    assert main_table[0][:4] == ["method", "PM", "TM", "GM"]
    assert main_table[1][:2] == [":--", "--:"]
    assert main_table[2][:4] == ["fedavg", "–", "–", "87.50 ± 3.54 %"]  # of 0.9 and 0.85
    expected = ["GM", "2 of 2", "2.5", "5.0 s", "250 B", "25 FLOP", "3.00 ×", "1.00 ×"]
    assert targets[2] == ["fedavg", *expected]
    assert targets[3][5:] == ["750 B", "25 FLOP", "1.00 ×", "1.00 ×"]
    assert f"```\nstrata compare --report {' '.join(folders)} --target 0.8\n```" in text
    assert text.startswith("data fashion_mnist_12k · ")
    for cell in expected:
        assert f"<td>{cell}</td>" in page
        assert cell in " ".join(out.split())
    assert (tmp_path / "report" / "accuracy-flops.png").is_file()


def test_nothing_of_it_is_there_unless_asked_for(folders, tmp_path):
    out = reported("--report", *folders, "--output", str(tmp_path / "report"))
    text = (tmp_path / "report" / "results.md").read_text()
    assert "until" not in out
    assert "until" not in text
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 4
    assert "Cost until" not in (tmp_path / "report" / "report.html").read_text()


def test_labels_are_no_markup():
    assert escaped("a|b *c* <d>\n_e_ lg_fedavg") == r"a\|b \*c\* \<d\> \_e\_ lg_fedavg"
    odd = method("x|y", [0.5])
    text = results(Comparison([odd], None, "set|ting", "strata compare `x|y`"))
    assert "| x\\|y |" in text
    assert "set\\|ting" in text
    assert "```\nstrata compare `x|y`\n```" in text
