"""Stages against numpy, and what their codes weigh against real encodings."""

import math

import numpy as np
import pytest
import torch

from strata.engine.transport.coding import LowRank, Quantise, TopK, chosen, code

DRAWS = np.random.default_rng(0)


def drawn(*shape):
    return torch.from_numpy(DRAWS.normal(size=shape).astype(np.float32))


def bytes_of(stages, tensor):
    return chosen(tuple(stages), tuple(tensor.shape), tensor.element_size())[0].bytes


def packed(wholes, bits):
    """Whole numbers ≥ 0 as a string of bits, of so many each."""
    rows = (np.asarray(wholes)[:, None] >> np.arange(bits)) & 1
    return np.packbits(rows.astype(np.uint8)).tobytes()


@pytest.mark.parametrize(("share", "numbers"), [(0.1, 95), (0.01, 1000), (0.5, 64), (0.001, 7)])
def test_the_largest_numbers_stay_and_weigh_what_they_take(share, numbers):
    tensor = drawn(numbers)
    kept = math.ceil(share * numbers)
    places = np.sort(np.argsort(-np.abs(tensor.numpy()))[:kept])
    expected = np.zeros(numbers, np.float32)
    expected[places] = tensor.numpy()[places]
    assert np.array_equal(code([TopK(share)], tensor, 0).decoded().numpy(), expected)
    flags = np.zeros(numbers, np.uint8)
    flags[places] = 1
    told = min(places.astype(np.int32).tobytes(), np.packbits(flags).tobytes(), key=len)
    assert bytes_of([TopK(share)], tensor) == len(tensor.numpy()[places].tobytes() + told)


def test_what_would_not_be_smaller_stays_as_it_is():
    for stage in (TopK(1.0), Quantise(8), LowRank(1)):
        tensor = drawn(1)
        assert bytes_of([stage], tensor) == 4
        assert torch.equal(code([stage], tensor, 0).decoded(), tensor)
    tensor = drawn(6, 4)
    assert bytes_of([LowRank(3)], tensor) == 4 * 24  # (6 + 4) · 3 numbers are more
    assert torch.equal(code([LowRank(3)], tensor, 0).decoded(), tensor)


def test_a_matrix_becomes_its_nearest_of_a_rank():
    tensor = drawn(12, 3, 5)  # a convolution's, (12, 15)
    left, sizes, right = np.linalg.svd(tensor.numpy().reshape(12, 15).astype(np.float64), full_matrices=False)
    expected = (left[:, :2] * sizes[:2]) @ right[:2]
    coded = code([LowRank(2)], tensor, 0)
    assert np.allclose(coded.decoded().numpy(), expected.reshape(12, 3, 5), atol=1e-5)
    assert bytes_of([LowRank(2)], tensor) == sum(len(value.numpy().tobytes()) for value in coded.values) == 4 * 54


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
def test_rounding_lands_on_a_neighbour_and_has_no_bias(bits):
    tensor = drawn(33)
    largest, levels = float(tensor.abs().max()), 2 ** (bits - 1) - 1
    step = largest / levels
    rounds = np.stack([code([Quantise(bits)], tensor, seed).decoded().numpy() for seed in range(2000)]).astype(float)
    wholes = rounds / step
    assert np.abs(wholes - wholes.round()).max() < 1e-2
    assert np.abs(rounds - tensor.numpy()).max() < step * 1.001
    # Each draw is one of two neighbours, so its deviation is step/2 at most; five of the mean's.
    assert np.abs(rounds.mean(0) - tensor.numpy()).max() < 5 * step / 2 / math.sqrt(2000)
    signs = packed(np.abs(wholes[0].round()).astype(int) * 2 + (wholes[0] < 0), bits)
    assert bytes_of([Quantise(bits)], tensor) == len(np.float32(largest).tobytes() + signs)


def test_nothing_is_drawn_of_zeros_and_double_numbers_stay_double():
    assert code([Quantise(4)], torch.zeros(50), 1).decoded().abs().sum() == 0
    tensor = drawn(50).double()
    assert code([Quantise(4)], tensor, 1).decoded().dtype == torch.float64
    assert bytes_of([Quantise(4)], tensor) == 8 + 25


def test_the_same_seed_draws_the_same():
    tensor = drawn(50)
    one, same, other = (code([Quantise(4)], tensor, seed).decoded() for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_stages_follow_each_other():
    tensor = drawn(400)
    sparse = code([TopK(0.1)], tensor, 5)
    both = code([TopK(0.1), Quantise(8)], tensor, 5)
    assert torch.equal(both.positions, sparse.positions)
    step = float(tensor.abs().max()) / 127
    assert (both.decoded() - sparse.decoded()).abs().max() <= step * 1.001
    assert bytes_of([TopK(0.1), Quantise(8)], tensor) == 40 + 50 + 4  # a byte each, a bit for each of 400, a scale
    matrix = drawn(20, 30)
    coded = code([LowRank(2), Quantise(8)], matrix, 5)
    assert torch.equal(coded.decoded(), coded.values[0] @ coded.values[1])
    assert bytes_of([LowRank(2), Quantise(8)], matrix) == 40 + 60 + 2 * 4
