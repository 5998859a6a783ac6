"""Columns of tables: numbers that are written with marks, and columns that give the class away."""

import numpy as np
import pandas as pd
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.data.sources.columns import encode_column, without_leaks
from strata.engine.errors import DataError

ROWS = 24
TARGET = pd.Series(["x", "y", "z"] * (ROWS // 3), name="label")
ALL = np.ones(ROWS, bool)


def encoded(texts):
    column = pd.Series(texts, name="c")
    one = encode_column(column, np.ones(len(column), bool), "set")
    return one.block, one.remarks


def scaled(numbers):
    """Zero mean and unit deviation of those that are known, 0 for the others."""
    values = np.array(numbers, np.float64)
    return np.nan_to_num((values - np.nanmean(values)) / np.nanstd(values))


@pytest.mark.parametrize(
    ("texts", "numbers", "marks"),
    [
        (["1", "?", "3.5"], [1, np.nan, 3.5], "?"),
        (["5%", "2.5%", "10%"], [5, 2.5, 10], "%"),
        (["$5.50", "-$2", "$1,200.25"], [5.5, -2, 1200.25], "$ ,"),
        (["3 €", "4€", "1"], [3, 4, 1], "€"),
        (["1,000", "2,500,000", "3"], [1000, 2500000, 3], ","),
        (["1e-3", "N/A", ".5", None], [0.001, np.nan, 0.5, np.nan], "N/A"),
    ],
)
def test_numbers_with_marks_are_numbers(texts, numbers, marks):
    block, remarks = encoded(texts)
    assert block[:, 0] == pytest.approx(scaled(numbers), abs=1e-6)
    assert remarks.notes == (f"column 'c' is read as numbers, its marks ({marks}) aside",)


@pytest.mark.parametrize(
    "texts",
    [
        ["low", "?", "high"],
        ["1", "2", "3"],  # texts of a jsonl file; a csv has numbers here
        ["01", "?", "02"],  # codes
        ["5%", "0.05", "?"],  # of which scale?
        ["$5", "€5", "7"],
        ["0,100", "2,500", "1"],  # no thousands
    ],
)
def test_other_texts_are_categories(texts):
    block, remarks = encoded(texts)
    assert sorted(block.tolist()) == sorted(np.eye(3).tolist())
    assert not remarks.notes


def test_numbers_among_which_some_are_none_are_said_to_be_categories():
    (caution,) = encoded(["2", "3", "4", "5more"])[1].cautions
    assert "column 'c' is read as 4 categories, not as numbers, for it holds '5more'" in caution
    assert encoded(["a", "b", "c", "2nd"])[1].cautions == ()


def left(frame):
    kept, remarks = without_leaks(frame, [TARGET], ALL)
    return list(kept.columns), remarks


@pytest.mark.parametrize("name", ["Unnamed: 0", "id", "Id", "PassengerId", "customer_id", "index", "row_number"])
def test_numbers_of_rows_are_no_input(name):
    numbers = np.random.default_rng(0).permutation(ROWS) * 7
    kept, remarks = left(pd.DataFrame({name: numbers, "a": np.arange(ROWS) / 2}))
    assert kept == ["a"]
    assert f"column {name!r} is left out, for it numbers the rows" in remarks.notes[0]
    kept, _ = left(pd.DataFrame({name: numbers % 5, "a": np.arange(ROWS) / 2}))
    assert kept == [name, "a"]  # several rows have one value


def test_a_column_that_counts_rows_is_left_out_whatever_it_is_called():
    frame = pd.DataFrame({"n": np.arange(5, ROWS + 5), "a": np.arange(ROWS) / 2, "b": np.arange(ROWS) * 2})
    kept, remarks = left(frame)
    assert kept == ["a", "b"]
    assert "column 'n' is left out, for it numbers the rows. data.inputs" in remarks.cautions[0]
    assert left(frame[["n"]])[0] == ["n"]  # nothing else is there
    few = without_leaks(frame[:10], [TARGET[:10]], ALL[:10])[0]
    assert list(few.columns) == ["n", "a", "b"]


def test_each_split_may_be_counted_by_itself():
    train = np.arange(ROWS) < 15
    frame = pd.DataFrame({"n": np.r_[0:15, 0:9], "a": np.arange(ROWS) / 2})
    assert list(without_leaks(frame, [TARGET], train)[0].columns) == ["a"]
    assert list(without_leaks(frame, [TARGET], ALL)[0].columns) == ["n", "a"]


def test_the_target_once_more_is_left_out():
    kept, remarks = left(pd.DataFrame({"a": np.arange(ROWS) / 2, "label.1": TARGET}))
    assert kept == ["a"]
    assert "column 'label.1' is left out, for it is the target once more" in remarks.cautions[0]


def test_the_target_in_other_words_is_said():
    coded = TARGET.map({"x": 4, "y": 9, "z": 1})
    kept, remarks = left(pd.DataFrame({"a": np.arange(ROWS) / 2, "code": coded}))
    assert kept == ["a", "code"]
    assert "column 'code' says the same as the target, one to one" in remarks.cautions[0]
    coded[0] = 9
    assert left(pd.DataFrame({"code": coded}))[1].cautions == ()


def test_columns_that_are_asked_for_are_taken(tmp_path):
    pd.DataFrame({"id": range(ROWS), "a": np.arange(ROWS) / 2, "label": TARGET}).to_csv(tmp_path / "t.csv", index=False)
    name = str(tmp_path / "t.csv")
    assert load(DataConfig(name=name), 1, 0).x.shape == (ROWS, 1)
    assert load(DataConfig(name=name, inputs="id,a"), 1, 0).x.shape == (ROWS, 2)


def test_marks_do_not_make_free_text_a_number(tmp_path):
    texts = [f"$ {row} or so" for row in range(40)]
    pd.DataFrame({"a": texts, "label": ["x", "y"] * 20}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="column 'a' has 40 distinct texts"):
        load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0)


def test_whole_numbers_without_a_gap_may_number_rows_that_were_mixed():
    mixed = np.random.default_rng(0).permutation(ROWS) + 100
    kept, remarks = left(pd.DataFrame({"a": np.arange(ROWS) / 2, "patient": mixed, "down": np.arange(ROWS)[::-1]}))
    assert kept == ["a", "patient", "down"]
    first, second = remarks.cautions
    assert "column 'patient' holds each whole number from 100 to 123 once, as numbers of rows do" in first
    assert "column 'down' holds each whole number from 0 to 23 once" in second
    mixed[0] = 200
    assert not left(pd.DataFrame({"a": np.arange(ROWS) / 2, "patient": mixed}))[1].cautions


def test_how_columns_became_inputs_is_said(tmp_path):
    numbers = [None, None, *np.arange(ROWS - 2) / 2]
    table = pd.DataFrame({"a": numbers, "b": numbers[::-1], "city": TARGET, "label": ["u", "v"] * (ROWS // 2)})
    table.to_csv(tmp_path / "t.csv", index=False)
    dataset = load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0)
    assert dataset.x.shape == (ROWS, 5)
    assert dataset.remarks.notes[-1] == (
        "inputs: 5, of 3 columns; numbers have mean 0 and deviation 1 over the training rows; missing ones are the "
        "mean: a (2), b (2); each value of a category is an input of 0 or 1: city (3)"
    )
