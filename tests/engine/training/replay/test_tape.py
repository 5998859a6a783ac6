"""A recording makes, on other operands, what the computation makes."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from strata.engine.training.replay.tape import record


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


def operations_of(replay, *operands):
    """Names of the operations that a replay makes."""
    made = []

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Noting():
        replay(*operands)
    return made


def test_what_is_the_same_in_every_replay_is_not_made_again_nor_what_nobody_needs():
    def operation(x):
        x.exp()
        return x * (torch.ones_like(x.sum()).expand(2, 3) + 1), x * torch.ones_like(x)

    replay, x = record(operation, [torch.zeros(2, 3)]), torch.randn(2, 3)
    assert operations_of(replay, x) == ["mul"]
    doubled, same = replay(x)
    assert torch.equal(doubled, 2 * x)
    assert torch.equal(same, x)


def test_what_is_changed_in_place_is_made_anew_in_each_replay():
    def operation(x):
        total = torch.zeros_like(x)
        total.add_(x)
        return (total * 1.0,)

    replay = record(operation, [torch.ones(2)])
    assert [replay(torch.full((2,), 3.0))[0].tolist() for _ in range(2)] == [[3, 3], [3, 3]]


def test_what_is_given_back_and_what_is_drawn_are_made_anew_in_each_replay():
    def operation(x):
        zeros = torch.zeros_like(x)
        return zeros, zeros + x + torch.rand(2)

    replay = record(operation, [torch.ones(2)])
    (zeros, drawn), (others, again) = (replay(torch.zeros(2)) for _ in range(2))
    assert zeros.data_ptr() != others.data_ptr()
    assert drawn.tolist() != again.tolist()


def test_a_product_with_ones_of_another_shape_or_type_stays():
    replay = record(lambda x: (x * torch.ones(2, 3), x * torch.ones(3, dtype=torch.float64)), [torch.zeros(3)])
    wide, double = replay(torch.arange(3.0))
    assert wide.tolist() == [[0, 1, 2]] * 2
    assert double.dtype == torch.float64
