"""Convolutions as products: those of torch, in values, gradients and layout."""

import copy

import pytest
import torch
from torch import nn

from strata.engine.method.losses import cross_entropy
from strata.engine.training.modules import slots
from strata.engine.training.replay import tape
from strata.engine.training.replay.products import convolve, convolve_backward, with_products
from strata.engine.training.stacked import Names, gradients

ATEN = torch.ops.aten
SHAPES = [  # clients, rows, channels in, channels out, kernel, padding
    (3, 4, 2, 5, (3, 3), [1, 1]),
    (2, 5, 1, 4, (5, 5), [0, 0]),
    (4, 3, 3, 6, (3, 2), [2, 1]),
    (2, 2, 4, 4, (1, 1), [0, 0]),
]


@pytest.mark.parametrize(("n", "p", "c", "o", "kernel", "padding"), SHAPES)
def test_values_and_gradients_are_those_of_torch(n, p, c, o, kernel, padding):
    torch.manual_seed(0)
    x, weight = torch.randn(p, n * c, 9, 7, dtype=torch.float64), torch.randn(n * o, c, *kernel, dtype=torch.float64)
    geometry = ([1, 1], padding, [1, 1], False, [0, 0], n)
    expected = ATEN.convolution.default(x, weight, None, *geometry)
    made = convolve(x, weight, None, *geometry)
    torch.testing.assert_close(made, expected)
    assert made.stride() == expected.stride()
    gradient = torch.randn_like(expected)
    for mask in ([True, True, False], [False, True, False], [True, False, False]):
        by_torch = ATEN.convolution_backward.default(gradient, x, weight, None, *geometry, mask)
        ours = convolve_backward(gradient, x, weight, None, *geometry, mask)
        for mine, theirs, wanted in zip(ours, by_torch, mask, strict=True):
            assert (mine is not None) == wanted
            if wanted:
                torch.testing.assert_close(mine, theirs)


class _Net(nn.Module):
    """Convolutions that products can make, and three that they cannot: with a stride, in groups, with a dilation."""

    def __init__(self):
        super().__init__()
        self.can = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 2))
        self.cannot = nn.Sequential(
            nn.Conv2d(6, 6, 3, stride=2), nn.Conv2d(6, 6, 2, groups=6), nn.Conv2d(6, 6, 2, padding=1, dilation=2)
        )
        self.head = nn.Linear(6 * 2 * 2, 3)

    def forward(self, x):
        return self.head(self.cannot(self.can(x)).flatten(1))


def test_a_recorded_step_has_the_same_gradients_with_products(monkeypatch):
    torch.manual_seed(0)
    clients, module = 3, _Net().double()
    held = slots(module)
    operands = [torch.randn(clients, 4, 1, 18, 18, dtype=torch.float64), torch.randint(3, (clients, 4))]
    operands += [torch.full((clients, 4), 0.25, dtype=torch.float64)]
    operands += [
        torch.stack([value.detach() + 0.01 * torch.randn_like(value) for _ in range(clients)])
        for value in held.values()
    ]
    graphs = []
    finish = tape._Tape.finish
    monkeypatch.setattr(tape._Tape, "finish", lambda self, made: (graphs.append(self), finish(self, made))[1])
    with torch.no_grad():
        plain = tape.record(gradients(module, cross_entropy, Names(tuple(held), (), ())), operands, module.buffers())
        expected = plain(*operands)
        changed = copy.deepcopy(graphs[0]._graph)
        with_products(changed)
        found = torch.fx.GraphModule(graphs[0]._held, changed).forward(*operands)
    targets = [node.target for node in changed.nodes]
    assert targets.count(convolve) == targets.count(convolve_backward) == 2
    assert targets.count(ATEN.convolution.default) == targets.count(ATEN.convolution_backward.default) == 3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
