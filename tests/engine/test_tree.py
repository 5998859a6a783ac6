"""What messages weigh."""

from dataclasses import dataclass

import pytest
import torch

from strata.engine.tree import count_bytes


@dataclass(frozen=True)
class Message:
    tensors: dict
    rest: tuple


def test_bytes_are_counted_part_by_part():
    message = Message({"w": torch.zeros(3, 2), "half": torch.zeros(5, dtype=torch.float16)}, (1, 2.0, True, "né", None))
    assert count_bytes(message) == 6 * 4 + 5 * 2 + 8 + 8 + 1 + 3


def test_what_is_neither_tensor_nor_number_is_refused_with_its_place():
    with pytest.raises(TypeError, match=r"\.rest\[1\]: a set cannot cross the network"):
        count_bytes(Message({}, (1, {2})))
