"""What is kept of data without their inputs."""

import numpy as np
import pytest

from strata.engine.data.dataset import ClientData, FederatedData
from strata.engine.data.memory import from_arrays
from strata.engine.data.outline import Outline, read_outline, write_outline
from strata.engine.errors import DataError


def data():
    """Two clients of six pictures of three classes."""
    x = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    made = from_arrays(x, ["ant", "bee", "cat"] * 2, name="pets")
    rows = [
        ClientData(np.array([0, 3]), np.array([1])),
        ClientData(np.array([5]), np.array([4]), np.array([2])),
    ]
    return FederatedData(made, rows, {0: [1], 1: [0]})


def test_all_but_the_inputs_comes_back(tmp_path):
    path, federated = tmp_path / "outline.npz", data()
    write_outline(path, federated, "abc", {"more": [1, None]})
    found, more = read_outline(path)
    kept, dataset = found.dataset, federated.dataset
    assert isinstance(kept, Outline)
    assert kept.digest == "abc"
    assert more == {"more": [1, None]}
    assert (kept.name, kept.classes, kept.class_names) == ("pets", 3, ("ant", "bee", "cat"))
    assert (kept.x.shape, kept.x.dtype, kept.value_range) == (dataset.x.shape, dataset.x.dtype, dataset.value_range)
    assert not kept.x.any()
    assert kept.y.tolist() == dataset.y.tolist()
    for mine, theirs in zip(found.clients, federated.clients, strict=True):
        assert mine.train.tolist() == theirs.train.tolist()
        assert mine.test.tolist() == theirs.test.tolist()
        assert mine.validation.tolist() == theirs.validation.tolist()
    assert dict(found.teams) == {0: [1], 1: [0]}
    assert [file.name for file in tmp_path.iterdir()] == ["outline.npz"]


def test_the_inputs_themselves_are_not_in_the_file(tmp_path):
    path = tmp_path / "outline.npz"
    write_outline(path, data(), "", {})
    with np.load(path) as file:
        assert sum(array.size for name, array in file.items() if array.dtype.kind in "iu") < 30


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_another_file_is_refused(tmp_path, damage):
    (tmp_path / "outline.npz").write_bytes(damage)
    with pytest.raises(DataError, match="expected what a run keeps of its data"):
        read_outline(tmp_path / "outline.npz")


def test_a_file_without_some_of_it_is_refused(tmp_path):
    np.savez(tmp_path / "outline.npz", y=np.arange(3))
    with pytest.raises(DataError, match="cannot be read"):
        read_outline(tmp_path / "outline.npz")
