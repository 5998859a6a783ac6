"""Rows as models take them, and batches planned for many clients at once."""

import numpy as np
import pytest
import torch

from strata.engine.data.dataset import Dataset
from strata.engine.method.length import Length
from strata.engine.method.requests import Sgd, Train
from strata.engine.models.spec import ModelSpec
from strata.engine.training import batches
from strata.engine.training.batches import Rows, plan_all, plan_batches

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 1, 3, 3), np.uint8)
DATA = Dataset("made", PIXELS, np.arange(40) % 7, 7)


@pytest.fixture
def rows():
    return Rows(DATA, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("bounds", [None, (0.0, 255.0), (-3.0, 252.0), (0.1, 260.7)])
@pytest.mark.parametrize(("shift", "scale"), [(0.5, 0.5), (0.4914, 0.25), (0.1307, 0.3081), (0.0, 1.0), (0.3, 4.0)])
def test_inputs_are_shifted_and_scaled_as_their_set_says_to_the_bit(dtype, bounds, shift, scale):
    values = np.arange(256).astype(dtype)[:, None]
    data = Dataset("made", values, np.arange(256) % 7, 7, shift=shift, scale=scale, value_range=bounds)
    x, _ = Rows(data, torch.device("cpu")).fetch(np.arange(256))
    low, high = bounds or (0.0, 255.0)
    expected = ((torch.from_numpy(values).float() - low) / (high - low) - shift) / scale
    assert torch.equal(x, expected if bounds or dtype is np.uint8 else torch.from_numpy(values).float())


def test_plans_made_together_are_those_made_one_by_one():
    request = Train(ModelSpec("mclr", (1, 3, 3), 7), {}, Sgd(0.1), 4, Length(epochs=2))
    asked = [(n, request, 100 + n) for n in (3, 4, 9, 20)]
    for made, one in zip(plan_all(asked), asked, strict=True):
        assert [part.tolist() for part in made] == [part.tolist() for part in plan_batches(*one)]


@pytest.mark.parametrize("room", [0, 10**6])
def test_gathered_rows_are_those_fetched_whether_there_is_room_to_keep_them_or_not(rows, monkeypatch, room):
    monkeypatch.setattr(batches, "GATHERED_BYTES", room)
    held, positions = np.array([7, 30, 2]), torch.tensor([2, 2, 0])
    for _ in range(2):
        x, y = rows.gathered(held)(positions)
        expected = (torch.from_numpy(PIXELS[[2, 2, 7]]).float() / 255 - DATA.shift) / DATA.scale
        assert torch.equal(x, expected)
        assert y.tolist() == [2, 2, 0]


def test_a_cohort_that_comes_again_is_not_fetched_again(rows, monkeypatch):
    fetched = []
    fetch = rows.fetch
    monkeypatch.setattr(rows, "fetch", lambda wanted: fetched.append(wanted.tolist()) or fetch(wanted))
    for cohort in ([1, 2], [3, 4], [1, 2]):
        rows.gathered(np.array(cohort))
    assert fetched == [[1, 2], [3, 4]]


def test_of_cohorts_that_are_kept_the_last_used_stay_as_far_as_there_is_room(monkeypatch):
    monkeypatch.setattr(batches, "GATHERED_BYTES", 2 * 2 * 9 * 4)  # two cohorts of two rows of nine float32
    rows, fetched = Rows(DATA, torch.device("cpu")), []
    fetch = rows.fetch
    monkeypatch.setattr(rows, "fetch", lambda wanted: fetched.append(wanted.tolist()) or fetch(wanted))
    for cohort in ([1, 2], [3, 4], [1, 2], [5, 6], [1, 2], [3, 4]):
        rows.gathered(np.array(cohort))
    assert fetched == [[1, 2], [3, 4], [5, 6], [3, 4]]


def test_each_sample_of_a_small_set_is_made_ready_once(monkeypatch):
    fetched = []
    fetch = Rows.fetch
    monkeypatch.setattr(Rows, "fetch", lambda self, wanted: fetched.append(wanted.tolist()) or fetch(self, wanted))
    rows = Rows(DATA, torch.device("cpu"))
    for wanted in ([7, 2, 7], [2, 30], [30, 7]):
        numbers, ready = rows.numbered(np.array(wanted), seen=100)
        x, y = ready(torch.from_numpy(numbers))
        assert torch.equal(x, (torch.from_numpy(PIXELS[wanted]).float() / 255 - DATA.shift) / DATA.scale)
        assert y.tolist() == [row % 7 for row in wanted]
    assert fetched == [[7, 2], [30]]


@pytest.mark.parametrize(("room", "last"), [(0, [1, 0]), (-1, [0, 1])])
def test_samples_of_a_set_that_is_too_large_are_fetched_for_each_cohort(monkeypatch, room, last):
    monkeypatch.setattr(batches, "READY_BYTES", 40 * (9 * 4 + 8) + room)  # of inputs as float32, and targets
    rows = Rows(DATA, torch.device("cpu"))
    for cohort in ([7, 30, 2], [30, 7]):
        numbers, fetch = rows.numbered(np.array(cohort), seen=100)
        x, y = fetch(torch.from_numpy(numbers))
        assert torch.equal(x, (torch.from_numpy(PIXELS[cohort]).float() / 255 - DATA.shift) / DATA.scale)
        assert y.tolist() == [row % 7 for row in cohort]
    assert numbers.tolist() == last  # places among all that are ready, or among the cohort


def test_samples_that_are_seen_once_are_made_ready_when_most_of_them_come_again():
    rows, found = Rows(DATA, torch.device("cpu")), []
    for cohort in ([7, 30, 2], [7, 8, 9], [30, 2, 8], [9, 11, 12], [9, 12, 7]):
        numbers, fetch = rows.numbered(np.array(cohort), seen=len(cohort))
        x, y = fetch(torch.from_numpy(numbers))
        assert torch.equal(x, (torch.from_numpy(PIXELS[cohort]).float() / 255 - DATA.shift) / DATA.scale)
        assert y.tolist() == [row % 7 for row in cohort]
        found.append(numbers.tolist())
    assert found == [[7, 30, 2], [7, 8, 9], [0, 1, 2], [9, 11, 12], [3, 4, 5]]


def test_samples_of_a_set_that_is_too_large_are_fetched_whenever_they_are_seen_once(monkeypatch):
    monkeypatch.setattr(batches, "READY_BYTES", 0)
    rows = Rows(DATA, torch.device("cpu"))
    for _ in range(3):
        assert rows.numbered(np.array([30, 7]), seen=2)[0].tolist() == [30, 7]


def test_samples_that_lie_together_are_not_copied_unless_they_begin_where_no_tensor_would():
    odd = Dataset("odd", np.arange(40 * 13).reshape(40, 13).astype(np.uint8), np.arange(40) % 7, 7)
    rows, held = Rows(odd, torch.device("cpu")), {}
    for own in ([5, 2, 9], [20, 21, 22, 23], [9, 5], [20, 22, 21, 23]):
        x, y = rows.lying(np.array(own))
        wanted, classes = rows.fetch(np.array(own))
        assert torch.equal(x, wanted)
        assert torch.equal(y, classes)
        assert x.data_ptr() % 64 == 0
        held[tuple(own)] = x.untyped_storage().nbytes() > x.nbytes
    assert held == {(5, 2, 9): True, (20, 21, 22, 23): False, (9, 5): False, (20, 22, 21, 23): False}
