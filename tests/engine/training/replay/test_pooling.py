"""Max pooling with channels last: torch's own values, places and gradients to the bit, alone and recorded."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import grad, vmap

from strata.engine.data.dataset import Dataset
from strata.engine.method.length import Length
from strata.engine.method.requests import Sgd, Train, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.modules import Modules
from strata.engine.training.replay import pooling
from strata.engine.training.replay.pooling import ATEN, MaxPool1d, MaxPool2d, max_pool, quickened
from strata.engine.training.replay.tape import record
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked

CNN = ModelSpec("cnn", (1, 28, 28), 10, (("width", 0.5), ("depth", 2)))
SHAPES = [(10, 32, 26, 26), (10, 8, 28, 28), (3, 64, 31, 17), (50, 16, 21, 22), (1, 512, 9, 9)]
HOW = {
    "halves": ([2, 2], [2, 2]),
    "windows that overlap": ([3, 3], [2, 2]),
    "one by one": ([2, 2], [1, 1]),
    "its kernel for a stride": ([2, 3],),
    "padding": ([3, 3], [2, 2], [1, 1]),
    "dilation": ([2, 2], [2, 2], [0, 0], [2, 2]),
    "a rest": ([2, 2], [2, 2], [0, 0], [1, 1], True),
}


def drawn(*shape):
    draws = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(*shape, generator=draws).relu()  # in which many are 0, and so equal
    x[0, 0, 0] = 1.0
    return x


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_places_are_those_of_torch(shape, how):
    x = drawn(*shape)
    assert pooling._pays(x)
    made, expected = max_pool(x, *how), ATEN.max_pool2d_with_indices(x, *how)
    assert all(map(torch.equal, made, expected))
    assert all(one.is_contiguous() for one in made)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_as_torch_has_it(value):
    x = drawn(10, 32, 26, 26)
    x[1, 3, 4:6, 5] = value
    x[2] = value
    made, expected = max_pool(x, [2, 2], [2, 2]), ATEN.max_pool2d_with_indices(x, [2, 2], [2, 2])
    assert torch.equal(made[0].nan_to_num(7.0), expected[0].nan_to_num(7.0))
    assert torch.equal(made[1], expected[1])


OTHERS = {
    "few channels": drawn(40, 3, 32, 32),
    "few values": drawn(4, 16, 14, 14),
    "channels last": drawn(10, 32, 26, 26).contiguous(memory_format=torch.channels_last),
    "float64": drawn(10, 32, 26, 26).double(),
    "one image": drawn(32, 64, 64),
}


@pytest.mark.parametrize("x", OTHERS.values(), ids=OTHERS)
def test_what_is_not_worth_it_is_left_to_torch(x):
    assert not pooling._pays(x)
    assert torch.equal(MaxPool2d(2)(x), nn.MaxPool2d(2)(x))
    assert all(map(torch.equal, max_pool(x, [2, 2]), ATEN.max_pool2d_with_indices(x, [2, 2])))


def with_gradient(layer, x):
    x = x.clone().requires_grad_()
    made = layer(x)
    weights = torch.randn(made.shape, generator=torch.Generator().manual_seed(1))
    return made.detach(), *torch.autograd.grad((made * weights).sum(), x)


LAYERS = {
    "2d": (nn.MaxPool2d(2), (10, 32, 26, 26)),
    "2d, overlapping": (nn.MaxPool2d(3, 2, 1), (10, 32, 26, 26)),
    "2d, of two numbers": (nn.MaxPool2d((2, 3), stride=(1, 2), ceil_mode=True), (10, 32, 26, 26)),
    "1d": (nn.MaxPool1d(2), (32, 64, 46)),
    "1d, overlapping": (nn.MaxPool1d(3, 2, 1), (32, 64, 47)),
    "1d, with gaps": (nn.MaxPool1d(2, 3, dilation=2, ceil_mode=True), (32, 64, 47)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers_have_the_gradients_of_torch(layer, shape, monkeypatch):
    x = drawn(*shape)
    expected = with_gradient(layer, x)
    turned = []
    monkeypatch.setattr(pooling, "_turned", lambda *a, own=pooling._turned: turned.append(len(a[0])) or own(*a))
    quick = quickened(nn.Sequential(type(layer)(**settings(layer))))
    assert type(quick[0]) in (MaxPool1d, MaxPool2d)
    assert all(map(torch.equal, with_gradient(quick, x), expected))
    assert turned
    with torch.no_grad():
        assert torch.equal(quick(x), expected[0])


def settings(layer):
    return {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")}


def test_places_that_are_asked_for_come_as_torch_gives_them():
    x = drawn(10, 32, 26, 26)
    quick = quickened(nn.MaxPool2d(2, return_indices=True))
    assert all(map(torch.equal, quick(x), nn.MaxPool2d(2, return_indices=True)(x)))


def test_a_loss_may_take_derivatives_of_its_own():
    x = drawn(10, 32, 26, 26)
    slope = grad(lambda x: quickened(nn.MaxPool2d(2))(x).square().sum())
    assert torch.equal(slope(x), grad(lambda x: nn.MaxPool2d(2)(x).square().sum())(x))
    rows = drawn(4, 10, 32, 14, 14)
    assert torch.equal(vmap(quickened(nn.MaxPool2d(2)))(rows), vmap(nn.MaxPool2d(2))(rows))


def test_a_layer_of_ones_own_is_left_alone():
    class Own(nn.MaxPool2d):
        pass

    assert type(quickened(nn.Sequential(Own(2)))[0]) is Own


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.MaxPool1d(2)], ids=["2d", "1d"])
def test_a_recorded_step_pools_so_too(layer, monkeypatch):
    shape = (5, 10, 16, 26, 26) if isinstance(layer, nn.MaxPool2d) else (5, 10, 64, 46)
    x = drawn(*shape)

    def operation(x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            made = vmap(layer)(leaf)
            return made.detach(), *torch.autograd.grad(made.square().sum(), leaf)

    seen = []
    monkeypatch.setattr(pooling, "_turned", lambda *a, own=pooling._turned: seen.append(len(a[0])) or own(*a))
    replay, expected = record(operation, [x.clone()]), operation(x)
    assert not seen
    assert all(map(torch.equal, replay(x), expected))
    assert sum(seen) == 50


def test_clients_that_train_one_by_one_pool_so(monkeypatch):
    seen = []
    monkeypatch.setattr(pooling, "_turned", lambda *a, own=pooling._turned: seen.append(len(a[0])) or own(*a))
    rng = np.random.default_rng(0)
    data = Dataset("made", rng.integers(0, 256, (30, 1, 28, 28), np.uint8), rng.integers(0, 10, 30), 10)
    request = Train(CNN, init_params(CNN, 0), Sgd(0.1), 10, Length(epochs=1))
    Sequential(data).answer([Asked(request, np.arange(30), 3, "client 0", Work())])
    assert seen == [10] * 6  # two poolings in each of three steps


def test_only_the_trainers_own_modules_are_changed():
    plain = Modules(torch.device("cpu")).bare(CNN)
    quick = Modules(torch.device("cpu"), quickened).bare(CNN)
    kinds = [{type(part) for part in module.modules()} & {nn.MaxPool2d, MaxPool2d} for module in (plain, quick)]
    assert kinds == [{nn.MaxPool2d}, {MaxPool2d}]
