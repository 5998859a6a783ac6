"""A recording makes, on other operands, what the computation makes."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from strata.engine.training.tape import record


def gradient(x, w):
    with torch.enable_grad():
        moving = w.detach().requires_grad_()
        loss = (x @ moving).tanh().square().sum()
        (found,) = torch.autograd.grad(loss, [moving])
    return found, loss.detach()


def test_a_replay_is_the_computation_on_other_operands():
    first, second = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    replay = record(gradient, [torch.randn(4, 3, generator=first), torch.randn(3, 2, generator=first)])
    operands = torch.randn(4, 3, generator=second), torch.randn(3, 2, generator=second)
    for made, expected in zip(replay(*operands), gradient(*operands), strict=True):
        assert torch.equal(made, expected)


def test_several_results_of_one_operation_are_told_apart():
    def extremes(x):
        values, places = x.max(1)
        return values, places, x.min(1).values

    replay = record(extremes, [torch.randn(3, 4)])
    x = torch.randn(3, 4)
    assert all(torch.equal(a, b) for a, b in zip(replay(x), extremes(x), strict=True))


def test_a_dense_layer_of_many_has_the_bits_of_one():
    layer = nn.Linear(300, 40)
    x, weight, bias = torch.randn(3, 8, 300), torch.randn(3, 40, 300), torch.randn(3, 40)

    def forward(x, weight, bias):
        return (vmap(lambda x, w, b: functional_call(layer, {"weight": w, "bias": b}, (x,)))(x, weight, bias),)

    with torch.no_grad():
        (made,) = record(forward, [x, weight, bias])(x, weight, bias)
    for lane in range(3):
        assert torch.equal(made[lane], nn.functional.linear(x[lane], weight[lane], bias[lane]))


def test_numbers_made_on_the_way_and_named_constants_are_part_of_it():
    shift = torch.tensor([1.0, 2.0])
    replay = record(lambda x: (x * torch.tensor(3.0) + shift,), [torch.zeros(2)], [shift])
    assert replay(torch.tensor([10.0, 20.0]))[0].tolist() == [31.0, 62.0]


def test_a_tensor_from_elsewhere_is_refused():
    elsewhere = torch.ones(2)
    with pytest.raises(RuntimeError, match="neither the model's nor the batch's"):
        record(lambda x: (x + elsewhere,), [torch.zeros(2)])
