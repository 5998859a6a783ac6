"""A folder of .npy files: the same set as an .npz, which stays on the disk."""

import numpy as np
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.mapped import Mapped
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError
from strata.engine.federation import Federation
from tests.helpers.small import small


def written(folder, client=np.int32, x=np.float32, y=np.int64):
    rng = np.random.default_rng(0)
    arrays = {
        "X": (rng.normal(size=(400, 5)) * 50).astype(x),
        "y": rng.integers(0, 4, 400).astype(y),
        "client": np.repeat(np.arange(8), 50).astype(client),
    }
    (folder / "npy").mkdir()
    for name, array in arrays.items():
        np.save(folder / "npy" / f"{name}.npy", array)
    np.savez(folder / "set.npz", **arrays)
    return str(folder / "npy"), str(folder / "set.npz")


def test_inputs_and_numbered_labels_stay_on_the_disk(tmp_path):
    folder, archive = written(tmp_path)
    mapped, read = (load(DataConfig(name=name), 8, 0) for name in (folder, archive))
    assert isinstance(mapped.x, Mapped)
    assert isinstance(mapped.y, Mapped)
    assert not isinstance(read.x, Mapped)
    assert np.array_equal(mapped.x, read.x)
    assert np.array_equal(mapped.y, read.y)
    assert mapped.class_names == read.class_names == ("0", "1", "2", "3")
    assert mapped.natural.tolist() == np.repeat(np.arange(8), 50).tolist()


def test_other_types_are_converted_in_memory(tmp_path):
    folder, archive = written(tmp_path, x=np.float64, y="U1", client="U1")
    mapped, read = (load(DataConfig(name=name), 8, 0) for name in (folder, archive))
    assert not isinstance(mapped.x, Mapped)
    for name in ("x", "y", "natural"):
        assert getattr(mapped, name).dtype == getattr(read, name).dtype
        assert np.array_equal(getattr(mapped, name), getattr(read, name))


def test_arrays_that_nobody_asks_for_are_not_opened(tmp_path):
    folder, _ = written(tmp_path)
    np.save(tmp_path / "npy" / "notes.npy", np.array([{}], dtype=object))
    assert len(load(DataConfig(name=folder), 8, 0).y) == 400


def test_labels_that_are_not_numbered_from_zero_are_numbered(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((4, 2), np.float32))
    np.save(tmp_path / "y.npy", np.array([7, 3, 3, 9]))
    found = load(DataConfig(name=str(tmp_path)), 1, 0)
    assert found.y.tolist() == [1, 0, 0, 2]
    assert found.class_names == ("3", "7", "9")


def test_a_run_on_the_disk_has_the_bits_of_one_in_memory(tmp_path):
    prints = []
    for name in written(tmp_path):
        words = (f"data={name}", "partition=natural", "data.limit=0", "model=mclr", "rounds=2")
        with Federation(small("fedavg", *words)) as federation:
            list(federation)
            prints.append(federation.fingerprint())
            data = federation.world.fingerprint
    assert prints[0] == prints[1]
    assert len(data) == 64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((3, 2), np.float32)}, "has no array y or label or labels or target; it has: X"),
        ({"X": np.zeros((3, 2), np.float32), "y": np.zeros(2, int)}, r"y has shape \(2,\), expected \(3,\)"),
        ({"X": np.zeros(3, np.float32), "y": np.arange(3)}, r"X has shape \(3,\), expected \(N, \.\.\.\)"),
        ({"X": np.float32(1), "y": np.arange(3)}, r"X has shape \(\), expected \(N, \.\.\.\)"),
        (
            {"X": np.zeros((3, 2), np.float32), "y": np.arange(3), "client": np.array([1, np.nan, 2])},
            r"1 of 3 samples have no client",
        ),
        ({"X": np.full((3, 2), np.nan, np.float32), "y": np.arange(3)}, "6 input values are missing or not finite"),
    ],
)
def test_malformed_folders_are_named(tmp_path, arrays, message):
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(DataError, match=message):
        load(DataConfig(name=str(tmp_path)), 1, 0)


def test_arrays_that_are_not_read_are_said(tmp_path):
    arrays = {"x": np.arange(12, dtype=np.float32).reshape(6, 2), "y": np.arange(6) % 2, "users": np.arange(6)}
    np.savez(tmp_path / "one.npz", **arrays, data=np.zeros((6, 2)))
    split = {f"{name}_{side}": arrays[name] for name in ("x", "y") for side in ("train", "test")}
    np.savez(tmp_path / "two.npz", **split, names=np.array(["a", "b"]))
    for name, left in (("one", "users, data"), ("two", "names")):
        notes = load(DataConfig(name=str(tmp_path / f"{name}.npz")), 1, 0).remarks.notes
        assert f"{tmp_path}/{name}.npz: not read: {left}" in notes


@pytest.mark.parametrize("flag", [0, 1])
def test_a_split_that_is_none_is_said(tmp_path, flag):
    np.savez(tmp_path / "one.npz", x=np.ones((6, 2), np.float32), y=np.arange(6) % 2, test=np.full(6, flag))
    dataset = load(DataConfig(name=str(tmp_path / "one.npz")), 1, 0)
    assert dataset.natural_test is None
    assert f"test is {flag} in all rows, so there is no published test split" in dataset.remarks.cautions[0]


def test_numbers_of_test_rows_are_no_flags(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.ones((6, 2), np.float32), y=np.arange(6) % 2, test=np.array([4, 5]))
    with pytest.raises(DataError, match=r"test holds 4, expected a flag for each row.*numpy\.isin"):
        load(DataConfig(name=str(tmp_path / "one.npz")), 1, 0)
