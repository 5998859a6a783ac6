import io
import statistics
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from strata.cluster.sinks.display import LiveDisplay, PlainDisplay, display_for, mean_std, seeds_table
from strata.cluster.sinks.jsonl import JsonlSink
from strata.cluster.sinks.views import describe
from strata.engine.notify import Step
from tests.helpers.records import CONFIG, SUMMARY, record, run_info, scores


def console(terminal: bool, width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, record=True)


def show(target: Console, rounds: range, exit_code: int = 0, every: int = 2) -> str:
    display = display_for(target)
    display.message("client actors: 3, started in 3.1 s")
    display.start(run_info(Path("runs/permfl-seed7")))
    for number in rounds:
        display.round(record(number, evaluated=number % every == 0))
    display.finish(SUMMARY, exit_code)
    return target.export_text()


def test_a_terminal_gets_the_live_view_and_a_pipe_plain_lines() -> None:
    assert isinstance(display_for(console(terminal=True)), LiveDisplay)
    assert isinstance(display_for(console(terminal=False)), PlainDisplay)


def test_plain_lines_say_one_line_per_evaluated_round() -> None:
    lines = show(console(terminal=False), range(1, 5)).splitlines()
    assert lines[0] == "client actors: 3, started in 3.1 s"
    assert lines[1] == "permfl, seed 7, 12 rounds"
    rounds = [line for line in lines if line.startswith("round ")]
    assert rounds == [
        "round  2/12  PM  66.67 %  GM  50.00 %  train loss 0.5000  virtual time 32 min 00 s  straggling      12.5 s"
        "  bytes up 2.00 MB  completed 2/3  wall 300 ms, left 1.5 s",
        "round  4/12  PM  80.00 %  GM  50.00 %  train loss 0.2500  virtual time  1 h 04 min  straggling      12.5 s"
        "  bytes up 2.00 MB  completed 2/3  wall 1.0 s, left 2.0 s",
    ]


def test_plain_lines_are_never_wrapped() -> None:
    narrow = show(console(terminal=False, width=40), range(1, 5))
    wide = show(console(terminal=False, width=200), range(1, 5))
    assert [line for line in narrow.splitlines() if line.startswith("round ")] == [
        line for line in wide.splitlines() if line.startswith("round ")
    ]


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (120, ["train loss", "virtual time", "straggling", "bytes up", "completed"], []),
        (80, ["train loss", "virtual time", "straggling", "bytes up"], ["completed"]),
        (60, ["train loss", "virtual time"], ["straggling", "bytes up"]),
        (40, ["train loss"], ["virtual time"]),
    ],
)
def test_accuracies_are_never_cut_and_less_important_columns_go_first(width, shown, left_out) -> None:
    text = show(console(terminal=True, width=width), range(1, 5))
    lines = text.splitlines()
    row = next(line for line in lines if line.split()[:1] == ["4"])
    assert row.split()[1:5] == ["80.00", "%", "50.00", "%"]
    header = next(line for line in lines if line.split()[:2] == ["round", "PM"])
    assert all(name in header for name in shown)
    assert not any(name in header for name in left_out)
    assert "…" not in text
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("terminal", [False, True])
def test_both_end_with_the_same_summary(terminal: bool) -> None:
    text = show(console(terminal), range(1, 13))
    summary = text.split("done after")[1]
    for row in (
        ["PM personal", "90.00 %", "81.25 %", "25.00 %"],
        ["GM global", "62.50 %", "50.00 %", "12.50 %"],
        ["virtual time", "3 h 12 min"],
        ["mean straggling", "12.2 s"],  # 12.25: to even
        ["bytes moved", "1.23 MB"],
        ["training FLOPs", "5.60 GFLOP"],
    ):
        line = next(line for line in summary.splitlines() if row[0] in line)
        positions = [line.find(cell) for cell in row]
        assert -1 not in positions
        assert positions == sorted(positions)
    assert "run directory  runs/permfl-seed7" in text
    assert "TM" not in summary  # no team model was evaluated


def test_the_final_view_shows_the_last_ten_evaluated_rounds() -> None:
    text = show(console(terminal=True), range(1, 13), every=1)
    first_cells = [line.split()[0] for line in text.splitlines() if line.strip()]
    shown = [int(cell) for cell in first_cells if cell.isdigit()]
    assert shown == list(range(3, 13))  # once each: redrawn frames are not recorded
    header = next(line for line in text.splitlines() if "virtual time" in line and "PM" in line)
    assert "GM" in header
    assert "TM" not in header


def test_the_trend_runs_from_the_first_to_the_last_accuracy() -> None:
    text = show(console(terminal=True), range(1, 5), every=1)
    trend = next(line for line in text.splitlines() if "→" in line and line.startswith(" PM"))
    # 1/2, 2/3, 3/4, 4/5 on a scale of 0 to 7: 0, 3.9, 5.8, 7
    assert trend.split() == ["PM", "▁▅▇█", "50.00", "%", "→", "80.00", "%"]


def test_the_running_view_shows_progress() -> None:
    target = console(terminal=True)
    display = LiveDisplay(target)
    display.start(run_info(Path("runs/x"), resumed_round=4))
    display.round(record(6))
    view = console(terminal=True)
    view.print(display._view())
    display.finish(SUMMARY, 0)
    text = view.export_text()
    assert "round 6/12" in text
    assert "50%" in text
    assert "66.67 %" not in text
    assert "85.71 %" in text


def test_the_view_exports_to_svg() -> None:
    target = console(terminal=True)
    display = display_for(target)
    display.start(run_info(Path("runs/x")))
    display.round(record(1))
    display.finish(SUMMARY, 0)
    picture = target.export_svg(title="strata")
    assert picture.startswith("<svg")
    assert "62.50&#160;%" in picture


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("exit_code", "ending"), [(0, "done"), (130, "interrupted"), (1, "failed")])
def test_the_summary_says_how_the_run_ended(terminal: bool, exit_code: int, ending: str) -> None:
    assert f"permfl seed 7: {ending} after 12 rounds" in show(console(terminal), range(1, 3), exit_code)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_that_ends_before_its_first_round_has_a_summary_too(terminal: bool) -> None:
    display = display_for(target := console(terminal))
    display.start(run_info(Path("runs/x")))
    display.finish({"last": {}, "best": {}, "worst_decile": {}, "rounds": 0}, 1)
    assert "failed after 0 rounds" in target.export_text()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_display_serves_several_runs_after_each_other(terminal: bool) -> None:
    display = display_for(target := console(terminal))
    for seed in (1, 2):
        display.start(run_info(Path(f"runs/seed{seed}"), seed=seed))
        display.round(record(1, scores={"PM": scores(0.1 * seed)}))
        display.finish(SUMMARY, 0)
    second = target.export_text().split("runs/seed1")[1]
    assert "20.00 %" in second
    assert "10.00 %" not in second


def test_a_resumed_run_shows_the_rounds_before_too(tmp_path: Path) -> None:
    metrics = JsonlSink()
    metrics.start(run_info(tmp_path))
    metrics.round(record(1))
    metrics.finish(SUMMARY, 130)
    display = display_for(target := console(terminal=True))
    display.start(run_info(tmp_path, resumed_round=1))
    display.round(record(2))
    display.finish(SUMMARY, 0)
    trend = next(line for line in target.export_text().splitlines() if "→" in line)
    assert trend.split() == ["PM", "▁█", "50.00", "%", "→", "66.67", "%"]


@pytest.mark.parametrize("terminal", [False, True])
def test_messages_are_not_markup(terminal: bool) -> None:
    target = console(terminal)
    display_for(target).message("seeds=[1,2,3] and [bold] stay")
    assert "seeds=[1,2,3] and [bold] stay" in target.export_text()


def test_a_run_is_described_by_its_configuration() -> None:
    assert describe(run_info(Path("x"))) == {
        "data": "fashion_mnist_12k · labels · mclr",
        "clients": "3 in 2 teams",
        "devices": "75 % phone_mid, 25 % laptop",
        "runtime": "Ray actors, clients per actor: auto",
    }


def test_a_flat_method_has_no_teams() -> None:
    assert describe(run_info(Path("x"), algorithm="fedavg"))["clients"] == "3"


def test_other_delays_and_runtimes_are_named() -> None:
    config = {**CONFIG, "delays": {"name": "pareto"}, "runtime": "inprocess"}
    facts = describe(run_info(Path("x"), config=config))
    assert (facts["devices"], facts["runtime"]) == ("pareto", "in this process")


def test_mean_and_sample_standard_deviation() -> None:
    values = [0.8, 0.9, 0.7]
    assert statistics.stdev(values) == pytest.approx(0.1)
    assert mean_std(values) == "80.00 ± 10.00 %"
    assert mean_std([0.8]) == "80.00 %"
    assert mean_std([]) == "–"


def test_seeds_have_a_row_each_and_their_mean() -> None:
    target = console(terminal=False)
    target.print(seeds_table({3: {"GM": 0.5, "PM": 0.9}, 5: {"GM": 0.7, "PM": 0.9}}))
    rows = [line.strip("│┃ ").split() for line in target.export_text().splitlines() if "%" in line or "seed " in line]
    assert rows[0] == ["seed", "┃", "PM", "┃", "GM"]
    assert rows[1] == ["3", "│", "90.00", "%", "│", "50.00", "%"]
    assert rows[2] == ["5", "│", "90.00", "%", "│", "70.00", "%"]
    # sample std of 0.5 and 0.7: √(2·0.1²/1) = 0.1414
    assert rows[3] == ["mean", "±", "std", "│", "90.00", "±", "0.00", "%", "│", "60.00", "±", "14.14", "%"]


def test_what_begins_stands_on_a_terminal_until_the_next_line_and_stays_in_a_pipe() -> None:
    written = {}
    for terminal in (True, False):
        target = Console(file=io.StringIO(), force_terminal=terminal, width=100)
        display = display_for(target)
        display.message(Step("reading data"))
        display.message(Step("starting Ray"))
        display.message("2 client actors")
        display.message(Step("making agents"))
        display.settle()
        display.settle()  # nothing is left to take back
        written[terminal] = target.file.getvalue()  # type: ignore[attr-defined]
    assert written[False] == "reading data …\nstarting Ray …\n2 client actors\nmaking agents …\n"
    erase = "\x1b[2K"  # of the whole line
    parts = [written[True].index(text) for text in ("reading data", "starting Ray", "2 client actors", "making agents")]
    assert parts == sorted(parts)
    for start, end in pairwise([*parts, len(written[True])]):
        assert erase in written[True][start:end] or written[True][start:].startswith("2 client")


def test_a_picture_of_the_terminal_does_not_show_what_began() -> None:
    target = console(terminal=True)
    display = display_for(target)
    display.message(Step("starting Ray"))
    display.message("2 client actors")
    assert target.export_text().strip() == "2 client actors"
