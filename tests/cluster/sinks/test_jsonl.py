import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strata.cluster.sinks.by_client import calls_by_round, read_calls, read_scores
from strata.cluster.sinks.jsonl import JsonlSink, read_metrics, record_from_plain
from strata.engine.errors import StrataError, StrataWarning
from strata.engine.method.calls import CallTable
from strata.engine.rounds.records import Scores
from tests.helpers.records import SUMMARY, record, run_info, scores


def write(run_dir: Path, rounds: range, **changes: Any) -> bytes:
    sink = JsonlSink()
    sink.start(run_info(run_dir, resumed_round=rounds.start - 1))
    for number in rounds:
        sink.round(record(number, **changes))
    sink.finish(SUMMARY, 0)
    return (run_dir / "metrics.jsonl").read_bytes()


def test_a_line_is_a_round_without_its_clients(tmp_path: Path) -> None:
    lines = write(tmp_path, range(1, 4)).decode().splitlines()
    second = json.loads(lines[1])
    assert len(lines) == 3
    assert (second["round"], second["virtual_s"], second["straggling_s"]) == (2, 1920.0, 12.5)
    assert second["scores"]["PM"]["accuracy"] == 1 - 1 / 3
    assert "calls" not in second
    assert "clients" not in second["scores"]["PM"]
    assert [call["status"] for call in calls_by_round(tmp_path)[2]] == ["ok", "late"]


def test_matrices_are_those_of_the_last_evaluation_in_a_file_of_their_own(tmp_path: Path) -> None:
    def scored(number: int) -> dict[str, Scores]:
        return {kind: replace(scores(0.5), confusion=[[number, 1], [0, 3]]) for kind in ("PM", "GM")}

    sink = JsonlSink()
    sink.start(run_info(tmp_path))
    for number in (1, 2):
        sink.round(record(number, scores=scored(number)))
    sink.round(record(3, evaluated=False))
    sink.finish(SUMMARY, 0)
    matrix = [[2, 1], [0, 3]]
    assert json.loads((tmp_path / "confusion.json").read_text()) == {"round": 2, "PM": matrix, "GM": matrix}
    assert all("confusion" not in line for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_equal_runs_write_equal_bytes_whatever_time_they_took(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert write(tmp_path / "a", range(1, 4), wall_s=1.0) == write(tmp_path / "b", range(1, 4), wall_s=2.0)
    timing = [json.loads(line) for line in (tmp_path / "b" / "timing.jsonl").read_text().splitlines()]
    peaks = [line.pop("peak_bytes") for line in timing]
    assert timing == [{"round": number, "wall_s": 2.0, "agents_wall_s": 0.0} for number in (1, 2, 3)]
    assert 2**24 < peaks[0] <= peaks[1] <= peaks[2]  # what a Python process with numpy has at least, in bytes


def test_every_round_is_on_the_disk_before_the_next(tmp_path: Path) -> None:
    sink = JsonlSink()
    sink.start(run_info(tmp_path))
    sink.round(record(1))
    assert [plain["round"] for plain in read_metrics(tmp_path / "metrics.jsonl")] == [1]
    sink.finish({}, 0)


@pytest.mark.parametrize("damage", [b"", b'{"round": 6, "virt', b'{"round": 6}', b"[1", b"\xff\xfe"])
def test_a_resumed_run_ends_with_the_file_of_an_undisturbed_one(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "whole").mkdir()
    whole = write(tmp_path / "whole", range(1, 8))
    killed = tmp_path / "killed"
    killed.mkdir()
    write(killed, range(1, 6))  # the last checkpoint was after round 3
    with (killed / "metrics.jsonl").open("ab") as file:
        file.write(damage)
    assert write(killed, range(4, 8)) == whole
    timing = (killed / "timing.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in timing] == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(path.name for path in killed.iterdir()) == ["clients", "metrics.jsonl", "timing.jsonl"]
    assert read_calls(killed) == read_calls(tmp_path / "whole")
    assert read_scores(killed) == read_scores(tmp_path / "whole")


def test_a_fresh_start_drops_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    once = write(tmp_path, range(1, 3))
    assert [json.loads(line)["round"] for line in once.splitlines()] == [1, 2]


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round": 1}\n{"round": 2}')  # without its line break the 2 may have been a 25
    assert read_metrics(path) == [{"round": 1}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round": 1}\n{"rou\n{"round": 3}\n')
    with pytest.warns(StrataWarning, match="line 2"):
        assert read_metrics(path) == [{"round": 1}, {"round": 3}]


def test_numbers_that_json_does_not_have_become_null(tmp_path: Path) -> None:
    written = write(tmp_path, range(1, 2), train_loss=math.inf, metrics={"x": np.float32(0.5)})
    plain = json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (plain["train_loss"], plain["metrics"]) == (None, {"x": 0.5})


def test_a_line_becomes_the_record_again(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    back = [record_from_plain(plain) for plain in read_metrics(tmp_path / "metrics.jsonl")]
    lean = CallTable.of([])
    scores = [{kind: replace(one, clients={}) for kind, one in record(n).scores.items()} for n in (1, 2)]
    assert back == [record(n, wall_s=0.0, calls=lean, scores=own) for n, own in zip((1, 2), scores, strict=True)]


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    sink = JsonlSink()
    sink.start(run_info(tmp_path))
    sink._files[0].close()
    with Path("/dev/full").open("w") as full:  # a disk without space left
        sink._files[0] = full
        with pytest.raises(StrataError, match=r"cannot be written.*No space left.*resume="):
            sink.round(record(1))
        sink.finish({}, 1)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="cannot be written"):
        JsonlSink().start(run_info(tmp_path / "nowhere"))
