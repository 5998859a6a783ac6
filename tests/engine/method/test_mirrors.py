"""What an upload changed of what its sender was sent."""

from dataclasses import dataclass

import torch

from strata.engine.method.length import Length
from strata.engine.method.mirrors import changes_of, source_of, with_changes


@dataclass(frozen=True)
class Down:
    w: dict
    c: dict
    length: Length


@dataclass(frozen=True)
class Up:
    w: dict
    dc: dict
    pair: tuple
    counts: torch.Tensor
    accuracy: float


@dataclass(frozen=True)
class Body:
    body: dict


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


SENT = Down({"a": vector(1, 2), "b": vector(5)}, {"a": vector(7, 7)}, Length(epochs=1))
UP = Up(
    {"a": vector(3, 5), "b": vector(4)}, {"z": vector(9, 9)}, (vector(1, 1), "text"), torch.tensor([1, 2]), accuracy=0.5
)


def test_a_field_goes_back_to_its_name_or_to_the_only_one_that_holds_all_of_it():
    assert source_of("w", UP.w, SENT) == "w"
    assert source_of("body", {"b": vector(0)}, SENT) == "w"  # c has no b
    assert source_of("body", {"a": vector(0, 0)}, SENT) is None  # of w or of c
    assert source_of("accuracy", 0.5, SENT) is None
    assert source_of("w", UP.w, None) is None


def test_changes_are_differences_to_what_was_sent_and_themselves_elsewhere():
    changes = changes_of(UP, SENT)
    expected = {".w[a]": [2, 3], ".w[b]": [-1], ".dc[z]": [9, 9], ".pair[0]": [1, 1]}
    assert {path: change.tolist() for path, change in changes.items()} == expected
    assert sorted(changes_of(UP, SENT, mirrored_only=True)) == [".w[a]", ".w[b]"]
    assert {p: c.tolist() for p, c in changes_of(Body({"b": vector(2)}), SENT).items()} == {".body[b]": [-3]}


def test_other_changes_lead_elsewhere_and_leave_the_rest():
    moved = with_changes(UP, SENT, {".w[a]": vector(10, 20), ".pair[0]": vector(0, 3)})
    assert moved.w["a"].tolist() == [11, 22]
    assert moved.w["b"] is UP.w["b"]
    assert moved.pair[0].tolist() == [0, 3]
    assert moved.pair[1] == "text"
    assert moved.counts is UP.counts
    assert (moved.accuracy, UP.w["a"].tolist()) == (0.5, [3, 5])


def test_what_was_sent_in_another_shape_is_no_origin():
    assert changes_of(Body({"b": vector(1, 2)}), SENT)[".body[b]"].tolist() == [1, 2]
    assert changes_of(Up({"a": vector(1)}, {}, (), vector(), 0.0), SENT)[".w[a]"].tolist() == [1]
