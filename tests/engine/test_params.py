"""Means of parameters, the exact sums behind them, and parameters as one vector."""

import math
import random
import struct
from fractions import Fraction

import numpy as np
import pytest
import torch

from strata.engine import params
from strata.engine.params import ExactSum, flatten, unflatten, uniform_mean, weighted_mean


def of_bits(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def finite(rng):
    """Any finite float32, as likely huge as tiny."""
    value = of_bits(rng.getrandbits(32))
    return value if math.isfinite(value) else finite(rng)


KINDS = {
    "any": finite,
    "alike": lambda rng: rng.gauss(0, 1),
    "denormal": lambda rng: of_bits(rng.getrandbits(23) | rng.getrandbits(1) << 31),
    "mostly 0": lambda rng: rng.gauss(0, 1e-9) if rng.random() < 0.3 else 0.0,
}
WEIGHTS = (lambda rng: 1, lambda rng: rng.randint(1, 500), lambda rng: rng.randint(0, 2**28))


def drawn(rng):
    """Some models of two tensors, whose columns are each of one kind, and their weights."""
    kinds = [rng.choice(list(KINDS.values())) for _ in range(rng.choice([2, 5, 9]))]
    rows = [[kind(rng) for kind in kinds] for _ in range(rng.choice([1, 2, 3, rng.randint(4, 40)]))]
    vectors = [torch.tensor(row, dtype=torch.float32) for row in rows]
    weigh = rng.choice(WEIGHTS)
    return [[vector[:1], vector[1:].view(-1, 1)] for vector in vectors], [weigh(rng) for _ in rows]


def added_up(rng, models, weights):
    """Their sum, in a random order and in random groups, some added at once and some taken in as sums of their own."""
    order, total, first = rng.sample(range(len(models)), len(models)), ExactSum(), 0
    while first < len(order):
        group = order[first : first + rng.randint(1, len(order))]
        own = rng.choice([total, ExactSum()])
        own.add([models[place] for place in group], [weights[place] for place in group])
        if own is not total:
            total.take(own.limbs())
        first += len(group)
    return total


@pytest.mark.parametrize("seed", range(60))
def test_sums_are_exact_in_any_order_and_grouping(seed, monkeypatch):
    rng = random.Random(seed)
    monkeypatch.setattr(params, "AT_ONCE", rng.choice([1, 2, 5, 2**16]))
    models, weights = drawn(rng)
    monkeypatch.setattr(params, "MANY", rng.choice([1, 8, 1000]))  # as rows of a matrix, or one by one
    monkeypatch.setattr(params, "BLOCK", rng.choice([1, 100, 2**17]))
    vectors = [torch.cat([part.reshape(-1) for part in model]).tolist() for model in models]
    exact = [
        sum(w * Fraction(x) for w, x in zip(weights, column, strict=True)) for column in zip(*vectors, strict=True)
    ]
    for _ in range(3):
        summed = added_up(rng, models, weights)
        held = [Fraction(0)] * len(exact)
        for limb in summed.limbs():
            columns = range(len(exact)) if limb.columns is None else limb.columns.tolist()
            for column, value in zip(columns, limb.values.tolist(), strict=True):
                held[column] += Fraction(value)
        assert held == exact
        assert summed.rounded().tolist() == [float(value) for value in exact]


@pytest.mark.parametrize("first", [0, 1])
def test_what_is_taken_in_is_not_written_to(first):
    sums = [ExactSum(), ExactSum()]
    large, small = 2.0**70, 2.0**-70
    sums[0].add([[torch.tensor([1.0, large, 2.0])], [torch.tensor([2.0, small, 3.0])]], [1, 1])
    sums[1].add([[torch.tensor([large, 5.0, 1.0])], [torch.tensor([1.0, 5.0, small])]], [1, 1])
    limbs = [summed.limbs() for summed in sums]
    assert [len(own) for own in limbs] == [2, 2]
    arrays = [array for own in limbs for limb in own for array in (limb.values, limb.columns) if array is not None]
    before = [array.copy() for array in arrays]
    total = ExactSum()
    for own in (limbs[first], limbs[1 - first]):
        for limb in own:
            total.take([limb])
            held = total._whole[0].numpy()
            # Until something is added it is read where it lies; there nothing may be written, which ends a process.
            is_first = limb is limbs[first][0]
            assert [np.shares_memory(held, array) for array in arrays] == [
                is_first and a is limb.values for a in arrays
            ]
    assert all(np.array_equal(array, was) for array, was in zip(arrays, before, strict=True))
    assert total.rounded().tolist() == [large + 4.0, large + 10.0, 6.0 + small]


@pytest.mark.parametrize("size", [3, params.IN_CACHE + 5])
def test_a_sum_of_two_is_told_from_one_that_loses_something(size):
    one, other = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    total, lost = params._sum(one, other)
    assert not len(lost)
    assert torch.equal(total, other)
    for large, small in ((one, other), (other, one)):  # lost by either
        large[-1], small[-1] = 1e30, 1e-30
        total, lost = params._sum(one, other)
        assert total[-1] == 1e30
        assert lost[-1] == 1e-30
        assert not lost[:-1].any()


@pytest.mark.parametrize("many", [1, 1000])
def test_what_is_not_finite_stays_so_in_any_order(many, monkeypatch):
    monkeypatch.setattr(params, "MANY", many)
    inf, nan = math.inf, math.nan
    models = [[torch.tensor(row)] for row in ([inf, nan, inf, 1.0], [1.0, 1.0, -inf, 1e-30], [2.0, -inf, 3.0, 1e30])]
    for seed in range(12):
        rounded = added_up(random.Random(seed), models, [3, 1, 2]).rounded()
        assert rounded[:1].isposinf().all()
        assert rounded[1:3].isnan().all()
        assert rounded[3].item() == 2 * torch.tensor(1e30).item()


def test_means_weigh():
    trees = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([5.0, 6.0])}]
    assert weighted_mean(trees, [3, 1])["w"].tolist() == [2.0, 3.0]
    assert weighted_mean(trees, [0.75, 0.25])["w"].tolist() == [2.0, 3.0]
    assert uniform_mean(trees)["w"].tolist() == [3.0, 4.0]
    assert trees[0]["w"].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="cannot average 0 models"):
        weighted_mean([], [])
    with pytest.raises(ValueError, match="weights that sum to 0"):
        weighted_mean(trees, [0, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_means_keep_names_shapes_and_types(dtype):
    trees = [{"b": torch.full((2, 3), value, dtype=dtype), "a": torch.tensor(value, dtype=dtype)} for value in (1, 4)]
    mean = weighted_mean(trees, [1, 2])
    assert list(mean) == ["b", "a"]
    assert [value.dtype for value in mean.values()] == [dtype, dtype]
    assert (mean["b"].shape, mean["a"].shape) == ((2, 3), ())
    assert set(flatten(mean).tolist()) == {3.0}


def test_the_order_of_whole_weights_does_not_matter():
    # In float32, 1e8 + 1 is 1e8, so the order of a plain sum would matter.
    trees = [{"w": torch.tensor([value])} for value in (1e8, 1.0, -1e8)]
    assert {uniform_mean([trees[i] for i in order])["w"].item() for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2))} == {
        torch.tensor(1 / 3).item()
    }


@pytest.mark.parametrize("weight", [1.0, 7.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_the_mean_of_one_model_is_that_model_in_memory_of_its_own(dtype, weight):
    model = {"w": torch.tensor([0.1, -3.7, 1e-7, torch.inf], dtype=dtype)}
    mean = weighted_mean([model], [weight])
    assert torch.equal(mean["w"], model["w"])
    assert mean["w"].dtype == dtype
    mean["w"].zero_()
    assert model["w"][0] != 0


def test_a_mean_may_be_averaged_again():
    trees = [{"w": torch.rand(50)} for _ in range(7)]
    mean = weighted_mean(trees, range(1, 8))
    assert torch.equal(weighted_mean([mean], [28])["w"], mean["w"])


def test_flatten_and_back():
    tree = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([7.0])}
    vector = flatten(tree)
    assert vector.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert all(torch.equal(unflatten(vector, tree)[name], tree[name]) for name in tree)
