"""Labels as they stand in files: what is one class, what is none, and who says so."""

import json

import numpy as np
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.data.sources.labels import number_labels
from strata.engine.errors import DataError


def numbered(labels, no_label="", names=()):
    return number_labels(np.array(labels), names, no_label, "set")


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        ([5, 7, 5], ["5", "7"], [0, 1, 0]),
        ([10.0, 2.0, 10.0], ["2", "10"], [1, 0, 1]),
        ([True, False], ["False", "True"], [1, 0]),
        (["dog", "cat", "dog"], ["cat", "dog"], [1, 0, 1]),
        (["A", "a", "B"], ["A", "B", "a"], [0, 2, 1]),
        ([-1, 1, -1], ["-1", "1"], [0, 1, 0]),
        ([0, 255, 0], ["0", "255"], [0, 1, 0]),
        ([-2, -1, 0, 1, 2], ["-2", "-1", "0", "1", "2"], [0, 1, 2, 3, 4]),
        (["none", "low"], ["low", "none"], [1, 0]),
    ],
)
def test_labels_are_numbered_in_their_order(labels, names, classes):
    found = numbered(labels)
    assert (found.names, found.classes.tolist(), found.kept) == (names, classes, None)
    assert found.remarks.notes == ()


@pytest.mark.parametrize(
    ("labels", "odd"),
    [
        ([-1, 0, 1, 2], "-1"),
        ([-1, 1, 2, 3], "-1"),
        ([-100, 0, 1, 2], "-100"),
        ([0, 1, 2, 255], "255"),
        ([1, 2, 3, 255], "255"),
        (["cat", "dog", "?"], "?"),
        (["cat", "dog", ""], ""),
        (["cat", "dog", " "], ""),
        (["cat", "dog", "NaN"], "NaN"),
        (["cat", "dog", "cat", "Total"], "Total"),
    ],
)
def test_what_looks_like_no_label_is_refused_unless_it_is_said_what_it_is(labels, odd):
    with pytest.raises(DataError, match=r"looks like none.*data\.no_label=LABEL .*data\.no_label=keep") as caught:
        numbered(labels)
    others = sorted({label for label in labels if str(label).strip() != odd})
    assert f", beside {', '.join(map(str, others))}. data" in str(caught.value)
    kept = numbered(labels, no_label="keep")
    assert len(kept.names) == len(set(labels))
    if odd:
        without = numbered(labels, no_label=odd)
        assert odd not in without.names
        assert without.kept.tolist() == [str(label) != odd for label in labels]
        assert len(without.classes) == len(labels) - 1
        assert "1 samples without a label are left out (data.no_label)" in without.remarks.notes


def test_a_total_of_several_rows_is_a_class():
    assert numbered(["cat", "total", "total"]).names == ["cat", "total"]


@pytest.mark.parametrize(
    ("labels", "odd"), [([-1, 0, 1], "-1"), (["cat", "None", "dog"], "None"), (["a", "b", "unknown"], "unknown")]
)
def test_a_class_that_may_be_none_is_said(labels, odd):
    others = ", ".join(str(label) for label in labels if str(label) != odd)
    (caution,) = numbered(labels).remarks.cautions
    assert f"the label {odd} is read as a class, beside {others}. data.no_label=LABEL" in caution
    assert not numbered(labels, no_label=odd).remarks.cautions


@pytest.mark.parametrize(
    ("labels", "one", "other"),
    [
        ([">50K", "<=50K", ">50K."], ">50K", ">50K."),
        (["Dog", "dog", "cat"], "Dog", "dog"),
        (["01", "1", "2"], "01", "1"),
        (["007", "07", "8"], "007", "07"),
    ],
)
def test_labels_that_look_like_one_are_refused_unless_they_are_kept(labels, one, other):
    with pytest.raises(DataError) as caught:
        numbered(labels)
    assert f"the labels {one!r} and {other!r} look like one" in str(caught.value)
    assert len(numbered(labels, no_label="keep").names) == 3


def test_blanks_at_the_ends_of_labels_make_no_class_of_their_own():
    found = numbered(["dog", "dog ", "cat", " cat"])
    assert found.names == ["cat", "dog"]
    assert found.classes.tolist() == [1, 1, 0, 0]
    assert found.remarks.notes == ("blanks at the ends of labels are left out: ' cat', 'dog '",)
    assert len(numbered(["dog", "dog "], no_label="keep").names) == 2


def test_missing_labels_are_refused():
    for labels in (np.array(["a", None], object), np.array(["a", np.nan], object)):
        with pytest.raises(DataError, match="1 of 2 labels are missing"):
            number_labels(labels, (), "", "set")


def test_numbers_of_named_classes_are_bounded_and_may_mean_none():
    with pytest.raises(DataError, match=r"labels -1\.\.1, expected 0\.\.1\. .*data\.no_label"):
        numbered([0, 1, -1], names=("cat", "dog"))
    found = numbered([0, 1, -1], no_label="-1", names=("cat", "dog"))
    assert (found.names, found.classes.tolist()) == (("cat", "dog"), [0, 1])


def test_labels_that_nobody_has_or_everybody_are_no_setting():
    with pytest.raises(DataError, match=r"no sample has the label '9' of data\.no_label\. Labels are 0, 1"):
        numbered([0, 1], no_label="1,9")
    with pytest.raises(DataError, match=r"data\.no_label=0,1 leaves no sample"):
        numbered([0, 1], no_label="0,1")


def test_every_sample_a_class_of_its_own_is_refused():
    with pytest.raises(DataError, match=r"each of 30 samples has a label of its own.*data\.target"):
        numbered(np.arange(30) * 7)
    assert len(numbered(np.arange(30) * 7, no_label="keep").names) == 30


def test_classes_of_a_single_sample_are_said():
    (caution,) = numbered([0, 1] * 15 + [7]).remarks.cautions
    assert "1 of 3 classes have a single sample: 7. Where these numbers are amounts, data.task=regression" in caution
    (caution,) = numbered(["cat", "dog"] * 15 + ["7"]).remarks.cautions
    assert caution.endswith("1 of 3 classes have a single sample: 7.")


def test_rows_without_a_label_leave_every_array(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    arrays = {"X": x, "y": [0, -1, 1, 2, -1, 0, 1, 2], "client": list("aabbccdd"), "test": [0, 0, 0, 0, 1, 1, 1, 1]}
    np.savez(tmp_path / "set.npz", **arrays)
    found = load(DataConfig(name=str(tmp_path / "set.npz"), no_label="-1"), 1, 0)
    kept = [0, 2, 3, 5, 6, 7]
    assert np.array_equal(found.x, x[kept])
    assert found.y.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.natural.tolist() == list("abbcdd")
    assert found.natural_test.tolist() == [False] * 3 + [True] * 3


def test_a_test_split_without_labels_is_no_test_split(tmp_path):
    np.savez(tmp_path / "set.npz", X=np.eye(4), y=[0, 1, -1, -1], test=[0, 0, 1, 1])
    assert load(DataConfig(name=str(tmp_path / "set.npz"), no_label="-1"), 1, 0).natural_test is None


def test_one_class_is_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"a": row, "label": "dog"}) for row in range(4)))
    with pytest.raises(DataError, match=r"all 4 samples have the label 'dog', so there is nothing to tell apart"):
        load(DataConfig(name=str(tmp_path / "t.jsonl")), 1, 0)
