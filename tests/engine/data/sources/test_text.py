"""Free text as token ids: what is a word, which words have a number, and which tables are refused."""

import io
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from strata.cluster.report.holdings import summary, table
from strata.cluster.report.holdings_plot import plot
from strata.engine.data.config import DataConfig, FormationConfig, PartitionConfig
from strata.engine.data.dataset import TokenShape
from strata.engine.data.federated import build
from strata.engine.data.sources.catalogue import load
from strata.engine.data.sources.text import encode, vocabulary_of, words
from strata.engine.errors import DataError

REVIEWS = ["Good, good film!", "a bad film", "Don't: BAD<br />", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good, GOOD film!", ["good", "good", "film"]),
        ("don't stop 'now'", ["don't", "stop", "now"]),
        ("a<br />b_1 2nd", ["a", "br", "b_1", "2nd"]),
        ("Übel—naïve", ["übel", "naïve"]),
        (" ...\n", []),
        ("我爱电影。", ["我", "爱", "电", "影"]),
        ("GPT4は好き", ["gpt4", "は", "好", "き"]),
        ("영화 좋아요", ["영화", "좋아요"]),
    ],
)
def test_words_are_lower_cased_runs(text, expected):
    assert words(text) == expected


def test_the_most_frequent_words_come_first_and_ties_are_alphabetical():
    # bad, film, good twice; a, br, don't once
    order = ["bad", "film", "good", "a", "br", "don't"]
    assert vocabulary_of(REVIEWS, 100) == {word: number for number, word in enumerate(order, start=2)}
    assert vocabulary_of(reversed(REVIEWS), 100) == vocabulary_of(REVIEWS, 100)
    # Four ids are padding, unknown, and two words.
    assert list(vocabulary_of(REVIEWS, 4)) == ["bad", "film"]


def test_texts_are_cut_and_padded():
    ids = encode(["x y x", "y", "", "z Y x y"], {"x": 2, "y": 3}, 3)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[2, 3, 2], [3, 0, 0], [0, 0, 0], [1, 3, 2]]


@pytest.fixture
def reviews(tmp_path):
    """Write a table of the four texts, twice, in every format."""
    frame = pd.DataFrame({"text": REVIEWS * 2, "stars": range(8), "label": [1, 0, 0, 1] * 2})
    frame.to_csv(tmp_path / "r.csv", index=False)
    frame.to_csv(tmp_path / "r.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "r.parquet")
    frame.to_json(tmp_path / "r.jsonl", orient="records", lines=True)
    return tmp_path


def read(folder, name="r.csv", **options):
    return load(DataConfig(name=name, root=str(folder), **{"text": "text", **options}), 1, 0)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_every_format_gives_the_same_ids(reviews, kind):
    made = read(reviews, f"r.{kind}", length=4, vocabulary=5)
    # bad 2, film 3, good 4; a csv's empty text is a missing one
    assert made.x.tolist() == [[4, 4, 3, 0], [1, 2, 3, 0], [1, 2, 1, 0], [0, 0, 0, 0]] * 2
    assert made.y.tolist() == [1, 0, 0, 1] * 2
    assert made.vocabulary == 5
    assert read(reviews, f"r.{kind}").x.shape == (8, 128)
    assert read(reviews, f"r.{kind}").vocabulary == 2 + 6  # no more than there are


def test_words_are_counted_in_the_training_rows_alone(tmp_path):
    for label, (part, text) in enumerate((("train", "seen"), ("test", "unseen seen"))):
        pd.DataFrame({"text": [text], "label": [label]}).to_csv(tmp_path / f"{part}.csv", index=False)
    made = read(tmp_path.parent, tmp_path.name, length=2)
    assert made.x.tolist() == [[2, 0], [1, 2]]
    assert made.natural_test.tolist() == [False, True]


def test_the_shape_of_an_input_knows_the_vocabulary(reviews):
    shape = read(reviews, length=4).input_shape
    assert isinstance(shape, TokenShape)
    assert (shape, shape.vocabulary) == ((4,), 8)
    copied = pickle.loads(pickle.dumps(shape))
    assert (copied, copied.vocabulary) == ((4,), 8)
    assert read(reviews, length=4, limit=4).vocabulary == 8


def test_ids_that_were_made_elsewhere_are_tokens(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.array([[3, 0], [7, 1]]), y=[0, 1])
    assert read(tmp_path, "t.npz", text="").vocabulary == 8
    rows = [{"tokens": [row, 5], "label": row % 2} for row in range(4)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read(tmp_path, "t.jsonl", text="").vocabulary == 6
    np.savez(tmp_path / "t.npz", X=np.array([[3, 0], [-7, 1]]), y=[0, 1])
    assert read(tmp_path, "t.npz", text="").vocabulary == 0
    np.savez(tmp_path / "t.npz", X=np.array([[3.0, 0], [7, 1]]), y=[0, 1])
    assert read(tmp_path, "t.npz", text="").vocabulary == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "review"}, "has no column 'review'. Set data.text to one of: text, stars, label"),
        ({"inputs": "stars"}, "text is the only input a set can have.*data.inputs empty"),
        ({"target": "text"}, "text is the only input a set can have, and not its target"),
        ({"text": "stars"}, "column 'stars' holds int values, expected text"),
    ],
)
def test_refusals_say_what_to_do(reviews, options, message):
    with pytest.raises(DataError, match=message):
        read(reviews, "r.parquet", **options)


def test_free_text_without_the_setting_points_to_it(tmp_path):
    pd.DataFrame({"note": [f"sentence {row}" for row in range(40)], "label": 0}).to_csv(tmp_path / "n.csv")
    with pytest.raises(DataError, match=r"40 distinct texts in 40 rows.*Set data.text=note to learn from it as text"):
        read(tmp_path, "n.csv", text="")


def test_a_column_without_words_and_a_set_without_columns(tmp_path):
    pd.DataFrame({"text": ["?", "!"], "label": [0, 1]}).to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(DataError, match="there is no word in column 'text'"):
        read(tmp_path, "n.csv")
    with pytest.raises(DataError, match=r"data.text=text: fashion_mnist_12k is no table.*Expected a csv"):
        read(tmp_path, "fashion_mnist_12k")


def test_reports_know_what_to_do_with_text(reviews):
    data = DataConfig(name="r.csv", root=str(reviews), text="text")
    made = build(data, PartitionConfig("iid", min_samples=2), FormationConfig(), 2, 0, 0)
    assert summary(made)["samples"] == 8
    Console(file=io.StringIO()).print(table(made))
    assert plot(made, reviews / "who.png").stat().st_size > 0


def test_what_became_of_words_is_said(tmp_path):
    texts = ["a b c d", "a b c", "今天 a"] * 4
    pd.DataFrame({"text": texts, "label": [0, 1] * 6}).to_csv(tmp_path / "t.csv", index=False)
    notes = read(tmp_path, "t.csv", length=3).remarks.notes
    said = "text: 6 words are told apart (data.vocabulary), a letter of a script without blanks being one"
    assert f"{said}; 4 of 12 texts are cut to 3 words (data.length)" in notes
    assert said in read(tmp_path, "t.csv", length=4).remarks.notes
