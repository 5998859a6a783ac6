"""What messages weigh."""

from strata.engine.tree import count_bytes


def test_messages_have_their_price():
    import torch

    assert count_bytes({"a": torch.zeros(3), "b": [1, 2.0, True, None, "é"]}) == 12 + 8 + 8 + 1 + 0 + 2
