"""Products of grouped convolutions, counted as what they are."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from strata.engine.models.flop_counter import FlopCounter


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_grouped_convolutions_are_counted_by_their_multiplications(kind, groups):
    # 8 → 16 channels, 3×3: at each pixel, every channel of one side meets those of its group on the other.
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    with FlopCounter() as counter:
        kind(8, 16, 3, padding=1, groups=groups)(x).sum().backward()
    forward = 2 * (2 * 6 * 6) * (3 * 3) * 8 * 16 // groups
    assert counter.get_total_flops() == 3 * forward  # the forward pass, and the gradients of input and weights


def test_without_groups_the_counter_is_torchs():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.Flatten(), nn.Linear(16, 2))
    counts = []
    for counter in (FlopCounter(), FlopCounterMode(display=False)):
        with counter:
            module(torch.randn(2, 3, 8, 8)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
