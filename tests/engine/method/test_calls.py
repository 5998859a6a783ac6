"""Client calls in columns: made of rows, joined, chosen from, and given back."""

import json
import pickle
from math import nan

import numpy as np
import pytest

from strata.engine.method.calls import LATE, LOST, NO_TEAM, OK, PROBE, CallTable
from tests.helpers.records import call

CALLS = [
    call(3, status=PROBE, team=NO_TEAM, loss=nan),
    call(0, metrics={"a": 1.0}),
    call(1, status=LATE, loss=nan, metrics={"b": 2.0, "a": 3.0}),
    call(2, status=LOST, device="phone", latency_s=4.0),
]


def test_a_table_has_a_column_of_each_field_and_of_each_metric():
    table = CallTable.of(CALLS)
    assert len(table) == 4
    assert table.client.tolist() == [3, 0, 1, 2]
    assert table.device.tolist() == ["laptop"] * 3 + ["phone"]
    assert (table.client.dtype, table.status.dtype, table.loss.dtype) == (np.int64, np.int8, np.float64)
    np.testing.assert_array_equal(table.metrics["a"], [nan, 1.0, 3.0, nan])
    np.testing.assert_array_equal(table.metrics["b"], [nan, nan, 2.0, nan])
    assert table.total_s.tolist() == [one.total_s for one in CALLS] == [0.0 + 0.5 + 1 + 0.25] * 3 + [4 + 1.75]


def test_a_probe_is_completed_and_what_a_deadline_dropped_is_not():
    table = CallTable.of(CALLS)
    assert table.completed.tolist() == [True, True, False, False]
    assert table.lost.tolist() == [False, False, False, True]


def test_an_empty_table_has_the_columns_of_any_other():
    empty, full = CallTable.of([]), CallTable.of(CALLS)
    assert len(empty) == 0
    assert empty.flops.dtype == full.flops.dtype
    assert list(empty.rows()) == []
    assert CallTable.joined([]) == empty
    assert CallTable.joined([empty, full]) == full


def test_tables_are_joined_below_each_other_and_lack_each_others_metrics():
    first, second = CallTable.of(CALLS[:2]), CallTable.of(CALLS[2:])
    assert CallTable.joined([first, second]) == CallTable.of(CALLS)
    assert CallTable.joined([first]) is first


def test_chosen_calls_are_those_of_a_mask():
    assert CallTable.of(CALLS).where(np.array([False, True, False, True])).client.tolist() == [0, 2]
    np.testing.assert_array_equal(CallTable.of(CALLS).where(np.arange(4) == 2).metrics["b"], [2.0])


def test_equal_tables_are_equal_in_every_column_and_nan_is_nan():
    table = CallTable.of(CALLS)
    assert table == CallTable.of(CALLS)
    assert table == pickle.loads(pickle.dumps(table))
    for name, value in (("client", 9), ("device", "x"), ("status", OK), ("upload_s", 9.0), ("loss", 0.0)):
        assert table != CallTable.of([CALLS[0]._replace(**{name: value}), *CALLS[1:]]), name
    assert table != CallTable.of([CALLS[0], CALLS[1]._replace(metrics={"a": 1.5}), *CALLS[2:]])
    assert table != CallTable.of([CALLS[0]._replace(metrics={"c": 1.0}), *CALLS[1:]])
    assert table != CallTable.of(CALLS[:3])
    assert table != "no table"
    with pytest.raises(TypeError, match="unhashable"):
        hash(table)


def test_what_is_found_of_clients_later_lies_beside_what_they_reported():
    table = CallTable.of(CALLS).with_metrics({0: {"a": 5.0, "c": 6.0}, 2: {"c": 7.0}, 99: {"a": 8.0}})
    np.testing.assert_array_equal(table.metrics["a"], [nan, 5.0, 3.0, nan])
    np.testing.assert_array_equal(table.metrics["b"], [nan, nan, 2.0, nan])
    np.testing.assert_array_equal(table.metrics["c"], [nan, 6.0, nan, 7.0])


def test_rows_are_plain():
    rows = list(CallTable.of(CALLS).rows())
    assert rows[0] == {**CALLS[0]._asdict(), "team": None, "status": "probe", "loss": None}
    assert [row["status"] for row in rows] == ["probe", "ok", "late", "lost"]
    assert [row["metrics"] for row in rows] == [dict(one.metrics) for one in CALLS]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
