"""Rounds as a table: what its columns hold, counted off records made by hand."""

import math

import numpy as np
import pytest

from strata.cluster.report.frame import read_rounds, rounds_frame
from strata.cluster.report.results import Contestant, Run, aligned
from strata.cluster.sinks.jsonl import JsonlSink
from strata.engine.rounds.scores import to_plain
from tests.helpers.records import SUMMARY, record, run_info, scores


def frame_of(*records):
    return rounds_frame([to_plain(one) for one in records])


def test_the_file_of_a_run_becomes_a_row_a_round(tmp_path):
    sink = JsonlSink()
    sink.start(run_info(tmp_path))
    for number in (1, 2, 3):
        sink.round(record(number, evaluated=number != 2, metrics={"teams": number, "lr": math.nan}))
    sink.finish(SUMMARY, 0)
    rounds = read_rounds(tmp_path / "metrics.jsonl")
    assert rounds.index.tolist() == rounds["rounds"].tolist() == [1, 2, 3]
    assert rounds["virtual_s"].tolist() == [960.0, 1920.0, 2880.0]
    assert rounds["PM.accuracy"].dropna().to_dict() == {1: 1 - 1 / 2, 3: 1 - 1 / 4}
    assert rounds["metrics.teams"].tolist() == [1, 2, 3]
    assert rounds["metrics.lr"].isna().all()  # stored as null
    assert (rounds.dtypes == np.float64).all()
    assert not any("clients" in column for column in rounds)


def test_bytes_and_flops_add_up():
    moved = {"bytes_client_down": 1, "bytes_client_up": 20, "bytes_team_down": 300, "bytes_team_up": 4000}
    rounds = frame_of(record(1, flops=7, **moved), record(2, flops=5, **{**moved, "bytes_team_up": 0}))
    assert rounds["bytes"].tolist() == [4321, 321]
    assert rounds["bytes_total"].tolist() == [4321, 4642]
    assert rounds["flops_total"].tolist() == [7, 12]


def test_more_flops_than_64_bits_hold_do_not_overflow():
    rounds = frame_of(record(1, flops=6 * 10**18), record(2, flops=6 * 10**18))
    assert rounds["flops_total"].tolist() == [6e18, 1.2e19]


def test_no_rounds_are_an_empty_table():
    assert len(rounds_frame([])) == 0


@pytest.mark.parametrize(
    "plain", [{"round": 1}, {**to_plain(record(1)), "scores": 3}, {**to_plain(record(1)), "flops": "x"}]
)
def test_other_lines_are_refused(plain):
    with pytest.raises((KeyError, TypeError, AttributeError, ValueError)):
        rounds_frame([plain])


def run(seed, *records):
    return Run(f"run{seed}", {"seed": seed}, frame_of(*records))


def test_what_a_run_came_to_is_its_last_number_and_its_mean_straggling():
    rounds = [record(1, straggling_s=1.0), record(2, straggling_s=4.0), record(3, evaluated=False, straggling_s=4.0)]
    outcome = run(0, *rounds).outcome
    assert outcome["straggling_s"] == 3.0
    assert outcome["rounds"] == 3
    assert outcome["PM.accuracy"] == 1 - 1 / 3  # of round 2, the last that was evaluated
    assert outcome["bytes_total"] == 3 * (300 + 1_500_000 + 20 + 500_000)


def test_seeds_without_a_kind_of_model_do_not_count_for_it():
    one = Contestant("x", [run(0, record(1)), run(1, record(1, scores={"GM": scores(0.25)}))])
    assert one.headlines("PM") == [0.5]
    assert one.headlines("GM") == [0.5, 0.25]
    assert one.headlines("TM") == []
    assert one.personal == "PM"


def test_columns_of_seeds_are_aligned_on_the_rounds_that_all_have():
    longer = run(0, record(1), record(2, evaluated=False), record(3), record(4))
    other = run(1, record(1, virtual_s=5.0), record(2), record(3, virtual_s=7.0))
    rounds_R, (clock_SR, accuracy_SR) = aligned([longer, other], "virtual_s", "PM.accuracy")
    assert rounds_R.tolist() == [1, 3]  # round 2 has no accuracy in one seed, round 4 is not there in the other
    assert clock_SR.tolist() == [[960.0, 2880.0], [5.0, 7.0]]
    assert accuracy_SR.tolist() == [[0.5, 0.75], [0.5, 0.75]]
    rounds_R, (missing_SR,) = aligned([longer, other], "metrics.nothing")
    assert rounds_R.tolist() == []
    assert missing_SR.shape == (2, 0)
