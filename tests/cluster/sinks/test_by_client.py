"""What is told of single clients: parquet files that hold every call and every accuracy, once."""

import math
from pathlib import Path

import pandas as pd
import pytest

from strata.cluster.sinks import by_client
from strata.cluster.sinks.by_client import ClientTables, calls_by_round, read_calls, read_scores
from strata.engine.errors import StrataError
from strata.engine.method.calls import LOST, NO_TEAM, CallTable
from tests.helpers.records import call, record, scores

CALLS = [
    call(3, metrics={"accuracy": 0.5, "loss": math.nan}),
    call(4, status=LOST, team=NO_TEAM, loss=math.nan, metrics={"accuracy": 0.25}),
]


def written(run_dir, rounds, resumed=0, **changes):
    tables = ClientTables(run_dir, resumed)
    for number in rounds:
        tables.add(record(number, **changes))


def files(run_dir, table="calls"):
    return sorted(path.name for path in (run_dir / "clients" / table).iterdir())


def test_calls_come_back_as_they_were_told(tmp_path):
    written(tmp_path, [1, 2], calls=CallTable.of(CALLS))
    expected = list(CallTable.of(CALLS).rows())
    assert calls_by_round(tmp_path) == {1: expected, 2: expected}
    assert expected[1]["team"] is expected[1]["loss"] is None


def test_pandas_reads_a_folder_as_one_table(tmp_path):
    written(tmp_path, [1, 2, 3])
    calls = pd.read_parquet(tmp_path / "clients" / "calls")
    assert calls["round"].tolist() == [1, 1, 2, 2, 3, 3]
    assert calls["status"].tolist() == ["ok", "late"] * 3
    accuracies = pd.read_parquet(tmp_path / "clients" / "scores")
    assert list(accuracies.columns) == ["round", "client", *record(1).scores]
    (first,) = accuracies.query("round == 2 and client == 10").to_dict("records")
    assert first["PM"] == record(2).scores["PM"].clients[10]


def test_clients_that_only_one_kind_of_model_was_evaluated_on_have_nothing_else(tmp_path):
    one, two = scores(0.5), scores(0.75)
    written(tmp_path, [1], scores={"PM": one, "GM": type(two)(**{**vars(two), "clients": {10: 0.75, 11: 1.0}})})
    rows = read_scores(tmp_path).to_pylist()
    assert rows == [
        {"round": 1, "client": 0, "PM": 0.5, "GM": None},
        {"round": 1, "client": 10, "PM": 0.25, "GM": 0.75},
        {"round": 1, "client": 11, "PM": None, "GM": 1.0},
    ]


def test_rounds_without_evaluation_and_without_calls_leave_no_file(tmp_path):
    written(tmp_path, [1], scores={}, calls=CallTable.of([]))
    assert files(tmp_path) == files(tmp_path, "scores") == []
    assert len(read_calls(tmp_path)) == len(read_scores(tmp_path)) == 0


def test_a_metric_that_comes_later_is_empty_before(tmp_path):
    written(tmp_path, [1], calls=CallTable.of([call(1)]))
    written(tmp_path, [2], resumed=1, calls=CallTable.of([call(1, metrics={"late": 2.0})]))
    assert read_calls(tmp_path)["metrics.late"].to_pylist() == [None, 2.0]


def test_files_of_many_rounds_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(by_client, "JOINED", 4)
    written(tmp_path, range(1, 11))
    assert files(tmp_path) == [f"{a:06d}-{b:06d}.parquet" for a, b in ((1, 4), (5, 8), (9, 9), (10, 10))]
    assert read_calls(tmp_path)["round"].to_pylist() == [number for number in range(1, 11) for _ in range(2)]


@pytest.mark.parametrize("last", [0, 3, 4, 6, 9])
def test_a_resumed_run_tells_every_round_once(tmp_path, monkeypatch, last):
    monkeypatch.setattr(by_client, "JOINED", 4)
    written(tmp_path / "whole", range(1, 13))
    written(tmp_path / "killed", range(1, 11))
    written(tmp_path / "killed", range(last + 1, 13), resumed=last)
    assert read_calls(tmp_path / "killed") == read_calls(tmp_path / "whole")
    assert read_scores(tmp_path / "killed") == read_scores(tmp_path / "whole")


def test_a_kill_while_files_are_joined_leaves_no_round_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(by_client, "JOINED", 4)
    written(tmp_path / "whole", range(1, 6))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    written(tmp_path / "killed", range(1, 5))
    monkeypatch.undo()
    assert len(files(tmp_path / "killed")) == 5
    assert len(read_calls(tmp_path / "killed")) == 8
    written(tmp_path / "killed", [5], resumed=4)
    assert read_calls(tmp_path / "killed") == read_calls(tmp_path / "whole")
    assert len(files(tmp_path / "killed")) == 2


@pytest.mark.parametrize("damage", [b"", b"PAR1 cut off"])
def test_a_damaged_file_is_named_when_the_run_resumes(tmp_path, damage):
    written(tmp_path, range(1, 4))
    (tmp_path / "clients" / "calls" / "000002-000002.parquet").write_bytes(damage)
    with pytest.raises(StrataError, match=r"000002-000002\.parquet: it is damaged: .* delete it to go on without"):
        ClientTables(tmp_path, 3)
    written(tmp_path, [2], resumed=1)  # where its rounds are repeated, it is of no use
    assert read_calls(tmp_path)["round"].to_pylist() == [1, 1, 2, 2]


def test_other_files_are_left_alone(tmp_path):
    written(tmp_path, [1])
    own = tmp_path / "clients" / "calls" / "a-b.parquet"
    own.write_text("one's own")
    written(tmp_path, [2], resumed=1)
    assert own.exists()
    assert read_calls(tmp_path)["round"].to_pylist() == [1, 1, 2, 2]


def test_a_run_without_tables_is_named(tmp_path):
    with pytest.raises(StrataError, match="clients/calls is missing"):
        read_calls(tmp_path)
