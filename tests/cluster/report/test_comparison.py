"""The table of results: means over the seeds, and against a baseline."""

from dataclasses import replace

import pytest

from strata.cluster.report.comparison import Comparison
from strata.cluster.report.results import Contestant
from strata.engine.evaluation.measures import KNOWN
from tests.helpers.comparisons import PLAIN, QUICK, read_back


def comparison(*contestants, baseline=None):
    return Comparison(contestants, baseline, "a setting", "strata compare")


def test_a_row_has_what_runs_came_to_over_the_seeds():
    made = comparison(PLAIN, QUICK)
    assert made.headings == ["method", "PM", "TM", "GM", "worst decile", "virtual time", "straggling", "bytes", "FLOPs"]
    # Accuracies 0.5 and 0.7: mean 0.6, sample deviation 0.1·√2. Straggling is a mean of the rounds, all else the last.
    assert made.rows[0] == [
        "fedavg", "–", "–", "60.00 ± 14.14 %", "30.00 ± 7.07 %", "2.0 s", "1.0 s", "1.50 kB", "3.00 GFLOP"
    ]  # fmt: skip
    assert made.rows[1] == ["hapfl", "80.00 %", "–", "–", "40.00 %", "500 ms", "0 s", "1.50 kB", "3.00 GFLOP"]


def test_against_a_baseline_there_are_two_more_columns():
    made = comparison(PLAIN, QUICK, baseline="fedavg")
    assert made.headings[-2:] == ["time vs fedavg", "straggling vs fedavg"]
    assert [row[-2:] for row in made.rows] == [["–", "–"], ["-75.0 %", "-100.0 %"]]
    turned = comparison(PLAIN, QUICK, baseline="hapfl")
    assert turned.rows[0][-2:] == ["+300.0 %", "–"]  # a baseline without straggling has no share


def test_the_figures_as_numbers():
    numbers = comparison(PLAIN, QUICK).numbers()
    assert numbers["fedavg"] == pytest.approx(
        {
            "GM": 0.6,
            "GM_std": 0.1 * 2**0.5,
            "worst_decile": 0.3,
            "virtual_s": 2.0,
            "straggling_s": 1.0,
            "bytes": 1500.0,
            "flops": 3e9,
        }
    )
    expected = {"PM": 0.8, "worst_decile": 0.4, "virtual_s": 0.5, "straggling_s": 0.0, "bytes": 1500.0, "flops": 3e9}
    assert numbers["hapfl"] == pytest.approx(expected)


def test_what_only_some_evaluations_measure_has_a_table_where_one_did():
    run = read_back(0, (0.5, 0.75), kind="PM")
    further = run.rounds.assign(**{"PM.hurt": 0.125, "PM.macro_f1": 0.5, "unseen PM.accuracy": 0.25})
    made = comparison(PLAIN, Contestant("permfl", [replace(run, rounds=further)]))
    assert made.further is not None
    assert made.further.headings == ["method", "macro F1", "hurt", "unseen PM"]
    assert made.further.rows == [["fedavg", "–", "–", "–"], ["permfl", "50.00 %", "12.50 %", "25.00 %"]]
    assert made.headings == comparison(PLAIN, QUICK).headings
    assert comparison(PLAIN, QUICK).further is None
    numbers = made.numbers()["permfl"]
    assert [numbers[name] for name in ("unseen PM", "macro_f1", "hurt")] == [0.25, 0.5, 0.125]


def test_a_measure_that_models_are_compared_by_is_in_the_first_table_alone():
    run = read_back(0, (0.5, 0.75))
    measured = replace(
        run, rounds=run.rounds.assign(**{"GM.macro_f1": 0.5, "GM.hurt": 0.125}), headline=KNOWN["macro_f1"]
    )
    made = comparison(Contestant("fedavg", [measured]))
    assert made.headings[3] == "GM macro F1"
    assert made.rows[0][3] == "50.00 %"
    assert made.further is not None
    assert made.further.headings == ["method", "hurt"]


def test_an_epsilon_that_was_said_is_in_that_table():
    run = read_back(0, (0.5, 0.75))
    private = replace(run, rounds=run.rounds.assign(**{"metrics.privacy/epsilon": [1.0, 2.345]}))
    made = comparison(PLAIN, Contestant("private", [private, private]))
    assert made.further is not None
    assert made.further.headings == ["method", "ε"]
    assert made.further.rows == [["fedavg", "–"], ["private", "2.35"]]
    assert made.numbers()["private"]["epsilon"] == 2.345
    assert "epsilon" not in made.numbers()["fedavg"]


def test_the_terminals_table_takes_labels_as_they_are():
    odd = Contestant("[red]a[/red]", PLAIN.runs)
    table = comparison(odd, QUICK, baseline="hapfl").table()
    assert [cell.plain for cell in table.columns[0].cells] == ["[red]a[/red]", "hapfl"]
    assert [column.header.plain for column in table.columns][-1] == "straggling\nvs\nhapfl"
    assert [cell.plain for cell in table.columns[3].cells] == ["60.00\n± 14.14 %", "–"]
    wide = comparison(PLAIN, QUICK).table()
    assert [cell.plain for cell in wide.columns[3].cells] == ["60.00 ± 14.14 %", "–"]
