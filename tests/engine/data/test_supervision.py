"""What targets are taken for, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from strata.engine.data.config import DataConfig, FormationConfig, PartitionConfig
from strata.engine.data.federated import build
from strata.engine.data.memory import from_arrays
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError

DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(40, 3)).astype("float32")
NUMBERS = X @ np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 1.0]], "float32")
LABELS = (NUMBERS > 0).astype(int)


@pytest.mark.parametrize(
    ("y", "task", "kind", "shape"),
    [
        (LABELS[:, 0], "classification", "int64", (40,)),
        (LABELS[:, 0].astype(float), "classification", "int64", (40,)),
        (LABELS[:, :1], "classification", "int64", (40,)),
        (np.eye(3)[np.arange(40) % 3], "classification", "int64", (40,)),
        (NUMBERS[:, 0], "regression", "float32", (40, 1)),
        (NUMBERS, "regression", "float32", (40, 2)),
        (LABELS, "multi_label", "uint8", (40, 2)),
    ],
)
def test_targets_that_are_beyond_doubt_say_what_they_are_for(y, task, kind, shape):
    data = from_arrays(X, y)
    assert (data.task, str(data.y.dtype), data.y.shape) == (task, kind, shape)
    if task != "classification":
        assert any(note.startswith(f"task: {task.replace('_', ' ')}, of") for note in data.remarks.notes)
        assert data.classes == shape[1]


def test_a_task_that_is_named_wins():
    one = np.eye(3)[np.arange(40) % 3]
    assert from_arrays(X, one, task="multi_label").y.shape == (40, 3)
    assert from_arrays(X, np.arange(40) % 7, task="regression").y[:, 0].tolist() == [i % 7 for i in range(40)]
    tokens = from_arrays(np.arange(80).reshape(40, 2) % 9, np.arange(40) % 11, task="next_token")
    assert (tokens.classes, tokens.vocabulary, tokens.task) == (11, 11, "next_token")


@pytest.mark.parametrize(
    ("y", "settings", "says"),
    [
        (NUMBERS.astype(int), {}, "Set data.task=regression if they are numbers"),
        (np.where(np.arange(40) == 3, np.nan, NUMBERS[:, 0]), {"task": "regression"}, "1 of 40 target values"),
        (np.full(40, 0.5), {}, "all targets are 0.5"),
        (NUMBERS, {"task": "multi_label"}, "hold more than 0 and 1"),
        (NUMBERS, {"task": "classification"}, "expected one class a sample, (40,)"),
        (np.ones((40, 3)), {}, "all samples have the same labels"),
        (LABELS * [1, 0], {"task": "multi_label"}, "no sample has the label '1'"),
        (LABELS, {"task": "multi_label", "classes": ["a", "b", "c"]}, "y has 2 columns, and 3 labels are named"),
        (NUMBERS[:, 0], {"task": "next_token"}, "expected the token id that follows each row"),
        (LABELS[:, 0], {"task": "next_token"}, "needs rows of token ids"),
        (np.array(["a", "b"] * 20), {"task": "regression"}, "targets are no numbers"),
        (LABELS[:, 0], {"task": "regresion"}, "expected auto, classification"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(y, settings, says):
    with pytest.raises(DataError) as caught:
        from_arrays(X, y, **settings)
    assert says in str(caught.value)


def test_numbers_can_be_scaled_by_the_training_rows(tmp_path):
    y, test = 1000 + 50 * NUMBERS, np.arange(40) >= 30
    np.savez(tmp_path / "set.npz", X=X, y=y, test=test)
    plain = load(DataConfig(name=str(tmp_path / "set.npz")), 4, 0)
    assert "data.target_scale=standard scales them" in plain.remarks.cautions[0]
    scaled = load(DataConfig(name=str(tmp_path / "set.npz"), target_scale="standard"), 4, 0)
    assert scaled.remarks.cautions == ()
    expected = (y - y[:30].mean(0)) / y[:30].std(0)
    np.testing.assert_allclose(scaled.y, expected, rtol=1e-4, atol=1e-5)
    np.savez(tmp_path / "labels.npz", X=X, y=LABELS)
    with pytest.raises(DataError, match=r"data.target_scale=standard: .* is read for multi_label"):
        load(DataConfig(name=str(tmp_path / "labels.npz"), target_scale="standard"), 4, 0)


def test_a_table_may_have_several_columns_of_targets(tmp_path):
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(price=NUMBERS[:, 0], size=NUMBERS[:, 1])
    frame.to_csv(tmp_path / "homes.csv", index=False)
    one = load(DataConfig(name=str(tmp_path / "homes.csv"), target="price"), 4, 0)
    assert (one.task, one.x.shape, one.y.shape) == ("regression", (40, 4), (40, 1))
    two = load(DataConfig(name=str(tmp_path / "homes.csv"), target="price, size"), 4, 0)
    assert (two.task, two.x.shape, two.class_names) == ("regression", (40, 3), ("price", "size"))
    np.testing.assert_allclose(two.y, NUMBERS, rtol=1e-5)
    frame.assign(a=X[:, 0] > 0, b=(X[:, 1] > 0).astype(int)).to_parquet(tmp_path / "labels.parquet")
    both = load(DataConfig(name=str(tmp_path / "labels.parquet"), target="a,b", inputs="c"), 4, 0)
    assert (both.task, both.y.tolist()) == ("multi_label", (X[:, :2] > 0).astype(int).tolist())
    frame.assign(a="red").to_parquet(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="of several columns of a target each holds numbers"):
        load(DataConfig(name=str(tmp_path / "text.parquet"), target="a,b"), 4, 0)
    with pytest.raises(DataError, match="has no column 'sise'"):
        load(DataConfig(name=str(tmp_path / "homes.csv"), target="price,sise"), 4, 0)


def test_the_words_of_texts_are_targets_after_those_before_them(tmp_path):
    texts = ["to be or not to be", "be not", "so"]
    pd.DataFrame({"line": texts, "who": ["a", "b", "b"]}).to_json(tmp_path / "play.jsonl", orient="records", lines=True)
    settings = {"name": str(tmp_path / "play.jsonl"), "text": "line", "length": 3, "task": "next_token"}
    data = load(DataConfig(**settings, client_column="who"), 2, 0)
    # By frequency, then by the alphabet: be 3, not 2, to 2, or 1, so 1.
    be, no, to, of, _so = range(2, 7)
    assert data.vocabulary == data.classes == 7
    assert data.y.tolist() == [be, of, no, to, be, no]
    expected = [[to, 0, 0], [to, be, 0], [to, be, of], [be, of, no], [of, no, to], [be, 0, 0]]
    assert data.x.tolist() == expected
    assert data.natural.tolist() == ["a"] * 5 + ["b"]
    assert "6 words of 3 texts are targets (data.task=next_token)" in data.remarks.notes


@pytest.mark.parametrize("name", ["iid", "quantity", "natural"])
@pytest.mark.parametrize("split", ["client", "published"])
def test_samples_without_classes_are_dealt_whole(name, split):
    data = from_arrays(X, NUMBERS, clients=np.arange(40) % 4, test=np.arange(40) % 5 == 4)
    made = build(
        DataConfig(name="memory:arrays", split=split, validation_fraction=0.2),
        PartitionConfig(name=name, min_samples=2),
        FormationConfig(),
        4,
        0,
        0,
        own=data,
    )
    sides = [(rows.train, rows.test, rows.validation) for rows in made.clients]
    assert sorted(np.concatenate([np.concatenate(side) for side in sides])) == list(range(40))
    assert all(len(part) for side in sides for part in side)


@pytest.mark.parametrize(
    ("data", "partition", "teams", "says"),
    [
        ({}, {"name": "dirichlet"}, 0, "partition.name=dirichlet goes by classes"),
        ({}, {"name": "labels"}, 0, "Use partition.name=iid, quantity, natural or file"),
        ({"label_noise": 0.1}, {"name": "iid"}, 0, "data.label_noise=0.1 goes by classes"),
        ({}, {"name": "iid"}, 2, "teams.formation.name=labels goes by classes"),
    ],
)
def test_what_goes_by_classes_is_refused_where_there_are_none(data, partition, teams, says):
    own = from_arrays(X, NUMBERS)
    with pytest.raises(DataError) as caught:
        build(
            DataConfig(name="memory:arrays", **data),
            PartitionConfig(**partition, min_samples=2),
            FormationConfig(name="labels"),
            4,
            teams,
            0,
            own=own,
        )
    assert says in str(caught.value)
