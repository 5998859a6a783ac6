import json

import numpy as np
import pandas as pd
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError


def frame(rows=40):
    index = np.arange(rows)
    return pd.DataFrame(
        {
            "size": index * 2.0,
            "colour": np.array(["red", "green", "blue", "red"])[index % 4],
            "flag": index % 2 == 0,
            "person": [f"p{row % 5}" for row in index],
            "label": np.array(["yes", "no"])[index % 2],
        }
    )


WRITERS = {
    "csv": lambda table, path: table.to_csv(path, index=False),
    "tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "parquet": lambda table, path: table.to_parquet(path),
    "jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_every_format_gives_the_same_set(tmp_path, kind):
    WRITERS[kind](frame(), tmp_path / f"mine.{kind}")
    dataset = load(DataConfig(name=f"mine.{kind}", root=str(tmp_path), client_column="person"), 1, 0)
    assert dataset.x.dtype == np.float32
    assert dataset.x.shape == (40, 1 + 3 + 1)
    assert dataset.class_names == ("no", "yes")
    assert dataset.y.tolist() == [1, 0] * 20
    assert dataset.natural.tolist() == [f"p{row % 5}" for row in range(40)]
    # 0, 2, .., 78: mean 39, variance 4·(40² - 1)/12 = 533
    assert dataset.x[:, 0] == pytest.approx((np.arange(40) * 2 - 39) / np.sqrt(533), abs=1e-5)
    # Columns of the colours are in the order blue, green, red.
    assert dataset.x[:4, 1:4].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert set(np.unique(dataset.x[:, 4])) == {-1.0, 1.0}


def test_train_and_test_files_scale_by_the_training_rows(tmp_path):
    table = pd.DataFrame({"a": [0.0, 2.0, 100.0], "label": [0, 1, 1]})
    table[:2].to_csv(tmp_path / "train.csv", index=False)
    table[2:].to_csv(tmp_path / "test.csv", index=False)
    dataset = load(DataConfig(name=str(tmp_path)), 1, 0)
    assert dataset.natural_test.tolist() == [False, False, True]
    assert dataset.x[:, 0].tolist() == [-1.0, 1.0, 99.0]


def test_missing_and_constant_values(tmp_path):
    table = pd.DataFrame({"a": [1.0, None, 3.0], "b": [5, 5, 5], "c": ["u", None, "v"], "label": [0, 1, 0]})
    table.to_parquet(tmp_path / "t.parquet")
    x = load(DataConfig(name=str(tmp_path / "t.parquet")), 1, 0).x
    assert x[:, 0].tolist() == [-1.0, 0.0, 1.0]
    assert x[:, 1].tolist() == [0.0, 0.0, 0.0]
    assert x[:, 2:].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]  # (missing), u, v


def test_inputs_select_columns(tmp_path):
    WRITERS["csv"](frame(), tmp_path / "t.csv")
    config = DataConfig(name=str(tmp_path / "t.csv"), inputs="flag, size")
    assert load(config, 1, 0).x.shape == (40, 2)


def test_token_lists_are_taken_as_they_are(tmp_path):
    rows = [{"tokens": [row, 1, 2], "label": row % 2} for row in range(4)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = load(DataConfig(name=str(tmp_path / "t.jsonl")), 1, 0)
    assert dataset.x.dtype == np.int64
    assert dataset.x.tolist() == [row["tokens"] for row in rows]


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({}, {"target": "income"}, "has no column 'income'. Set data.target to one of: size, colour"),
        ({}, {"client_column": "user"}, "has no column 'user'. Set data.client_column to one of"),
        ({}, {"inputs": "size,weight"}, "weight cannot be an input. Set data.inputs to some of: size"),
        ({"note": [f"sentence {row}" for row in range(40)]}, {}, "column 'note' has 40 distinct texts in 40 rows"),
        (
            {"when": pd.date_range("2024-01-01", periods=40)},
            {},
            "column 'when' holds .* values, which have no encoding",
        ),
        ({"label": np.linspace(0, 1, 40)}, {"task": "classification"}, "the target has fractional values"),
        ({"label": [None] * 3 + [1.0] * 37}, {}, "column 'label' lacks 3 of 40 labels"),
        ({"size": [np.inf] + [1.0] * 39}, {}, "'size' has infinite values"),
        ({"size": [np.nan] * 40}, {}, "'size' has no value in the training rows"),
    ],
)
def test_errors_name_the_column(tmp_path, change, config, message):
    frame().assign(**change).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=message):
        load(DataConfig(name=str(tmp_path / "t.parquet"), **config), 1, 0)


@pytest.mark.parametrize("strange", [[1.0, 2.0], {"a": 1}])
@pytest.mark.parametrize("place", [0, 5])
def test_a_column_of_jsonl_that_mixes_texts_with_other_things_is_named(tmp_path, strange, place):
    rows = [{"a": row, "x": strange if row == place else "text", "label": row % 2} for row in range(40)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=rf"column 'x' holds {type(strange).__name__} values, which have no encoding"):
        load(DataConfig(name=str(tmp_path / "t.jsonl")), 1, 0)


@pytest.mark.parametrize("strange", [[1], {"k": 1}])
@pytest.mark.parametrize("column", ["label", "user"])
def test_labels_and_clients_of_jsonl_that_are_no_plain_values_are_named(tmp_path, strange, column):
    rows = [{"a": row % 7, "user": f"u{row % 4}", "label": row % 2} for row in range(40)]
    rows[3][column] = strange
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = (
        rf"column '{column}' holds a {type(strange).__name__} in 1 of 40 rows; expected a number or a text in each"
    )
    with pytest.raises(DataError, match=message):
        load(DataConfig(name=str(tmp_path / "t.jsonl"), client_column="user"), 1, 0)


def test_many_categories_are_free_text_even_in_a_large_table(tmp_path):
    table = pd.DataFrame({"id": [f"u{row % 300}" for row in range(3000)], "a": 1.0, "label": 0})
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"column 'id' has 300 distinct texts"):
        load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0)


def test_unclear_folders_and_files(tmp_path):
    for name in ("a.csv", "b.csv"):
        WRITERS["csv"](frame(), tmp_path / name)
    with pytest.raises(DataError, match=r"expected one .csv file, or one that ends in train .* found a.csv, b.csv"):
        load(DataConfig(name=str(tmp_path)), 1, 0)
    (tmp_path / "c.jsonl").write_text("{broken")
    with pytest.raises(DataError, match=r"files of several formats. Set data.format to one of: csv, jsonl"):
        load(DataConfig(name=str(tmp_path)), 1, 0)
    with pytest.raises(DataError, match=r"c.jsonl cannot be read as jsonl"):
        load(DataConfig(name=str(tmp_path / "c.jsonl")), 1, 0)


def test_train_and_test_with_different_columns(tmp_path):
    frame().to_csv(tmp_path / "x_train.csv", index=False)
    frame().drop(columns="flag").to_csv(tmp_path / "x_test.csv", index=False)
    with pytest.raises(DataError, match=r"different columns: flag"):
        load(DataConfig(name=str(tmp_path)), 1, 0)


def write_series(path, labels, length=5, missing=False):
    lines = ["\t".join(map(str, [label, *(label + np.arange(length) / 10)])) for label in labels]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + ("\n1\tNaN" + "\t0" * (length - 1) if missing else "") + "\n")


@pytest.mark.parametrize("name", ["ucr/Toy", "ucr/Toy_TRAIN.tsv", "ucr"])
def test_ucr_series(tmp_path, name):
    write_series(tmp_path / "ucr/Toy_TRAIN.tsv", [-1, 1, 1])
    write_series(tmp_path / "ucr/Toy_TEST.tsv", [1, -1])
    dataset = load(DataConfig(name=name, root=str(tmp_path)), 1, 0)
    assert dataset.x.shape == (5, 1, 5)
    assert dataset.x.dtype == np.float32
    assert dataset.x[0, 0] == pytest.approx([-1.0, -0.9, -0.8, -0.7, -0.6])
    assert dataset.y.tolist() == [0, 1, 1, 1, 0]
    assert dataset.class_names == ("-1", "1")
    assert dataset.natural_test.tolist() == [False] * 3 + [True] * 2


def test_ucr_series_with_gaps_or_unequal_files(tmp_path):
    write_series(tmp_path / "G_TRAIN.tsv", [1, 2], missing=True)
    with pytest.raises(DataError, match=r"1 of 3 series have missing values"):
        load(DataConfig(name="G", root=str(tmp_path)), 1, 0)
    write_series(tmp_path / "U_TRAIN.tsv", [1, 2], length=5)
    write_series(tmp_path / "U_TEST.tsv", [1, 2], length=6)
    with pytest.raises(DataError, match=r"has series of length 5, .* of 6"):
        load(DataConfig(name="U", root=str(tmp_path)), 1, 0)
