"""What messages weigh, and how their tensors are replaced on the wire."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from strata.engine.tree import between, count_bytes, replaced


@dataclass(frozen=True)
class Message:
    tensors: dict
    rest: tuple


class Pair(NamedTuple):
    first: Any
    second: int


def test_bytes_are_counted_part_by_part():
    message = Message({"w": torch.zeros(3, 2), "half": torch.zeros(5, dtype=torch.float16)}, (1, 2.0, True, "né", None))
    assert count_bytes(message) == 6 * 4 + 5 * 2 + 8 + 8 + 1 + 3


def test_what_is_neither_tensor_nor_number_is_refused_with_its_place():
    with pytest.raises(TypeError, match=r"\.rest\[1\]: a set cannot cross the network"):
        count_bytes(Message({}, (1, {2})))


def test_what_is_replaced_is_replaced_wherever_it_is_and_the_rest_stays_what_it_was():
    whole, kept = Message({"a": 1, "b": "text"}, (2, [3])), Message({}, (None, 1.5))
    tree = {"x": [whole, kept], "y": (torch.ones(2), 7)}
    made = replaced(tree, Tensor, lambda tensor: tensor.sum().item())
    assert made == {"x": [whole, kept], "y": (2.0, 7)}
    assert made["x"] is tree["x"]
    assert type(tree["y"][0]) is torch.Tensor
    half = replaced(tree, Message, lambda message: len(message.rest))
    assert half["x"] == [2, 2]
    assert half["y"] is tree["y"]


def test_a_named_tuple_is_left_as_it_is():
    pair = Pair(torch.ones(1), 2)
    assert replaced([pair], Tensor, lambda tensor: None)[0] is pair


def test_between_two_trees_lie_their_float_tensors_and_the_rest_is_of_the_second():
    before = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor([1]), "gone": torch.ones(1), "v": (torch.zeros(1), 3)}
    after = {"w": torch.tensor([3.0, 6.0]), "n": torch.tensor([5]), "new": torch.ones(2), "v": (torch.ones(1), 4)}
    made = between(before, after, 0.25)
    assert list(made) == ["w", "n", "new", "v"]
    assert made["w"].tolist() == [1.5, 3.0]
    assert (made["n"], made["new"]) == (after["n"], after["new"])
    assert (made["v"][0].tolist(), made["v"][1]) == ([0.25], 4)
    assert before["w"].tolist() == [1.0, 2.0]
    assert between(before, after, 1.0) is after


def test_between_two_dataclasses_lies_one_and_what_changed_its_shape_is_of_the_second():
    before, after = Message(torch.zeros(2), torch.zeros(2)), Message(torch.ones(2), torch.ones(3))
    made = between(before, after, 0.5)
    assert type(made) is Message
    assert made.tensors.tolist() == [0.5, 0.5]
    assert made.rest is after.rest
    assert between(None, after, 0.5) is after
