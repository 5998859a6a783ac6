"""Arrays on the disk: read where they lie, and travelling by name."""

import pickle

import numpy as np
import pytest

from strata.engine.data.mapped import CHUNK_BYTES, Mapped, chunks, open_mapped
from strata.engine.errors import DataError


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "X.npy", np.arange(60, dtype=np.float32).reshape(20, 3))
    return tmp_path / "X.npy"


def test_it_is_the_array_that_was_saved(path):
    mapped = open_mapped(path)
    assert np.array_equal(mapped, np.arange(60).reshape(20, 3))
    assert not mapped.flags.writeable


def test_it_travels_as_the_name_of_its_file_and_a_part_as_its_values(path):
    mapped = open_mapped(path)
    there = pickle.loads(pickle.dumps(mapped))
    assert isinstance(there, Mapped)
    assert np.array_equal(there, mapped)
    part = pickle.loads(pickle.dumps(there[2:4]))
    assert not isinstance(part, Mapped)


def test_a_node_without_the_file_says_so(path):
    sent = pickle.dumps(open_mapped(path))
    path.unlink()
    with pytest.raises(DataError, match=r"X\.npy is not on this machine: data on the disk must lie on every node"):
        pickle.loads(sent)


def test_given_back_pages_are_there_again(path):
    mapped = open_mapped(path)
    before = np.array(mapped)
    mapped.release()
    assert np.array_equal(mapped, before)


@pytest.mark.parametrize("shape", [(5,), (3, CHUNK_BYTES // 8), (100, 7), (3, 2, CHUNK_BYTES)])
def test_chunks_are_the_array_in_its_order(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.int64).astype(np.uint8).reshape(shape)
    np.save(tmp_path / "a.npy", array)
    for one in (array, open_mapped(tmp_path / "a.npy"), open_mapped(tmp_path / "a.npy")[1:]):
        parts = list(chunks(one))
        assert np.array_equal(np.concatenate(parts), one)
        assert all(len(part) == 1 or part.nbytes <= CHUNK_BYTES for part in parts)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.asfortranarray(np.ones((3, 2))), "is in Fortran order. Save it with"),
        (np.array([{}, []], dtype=object), "cannot be mapped"),
    ],
)
def test_what_cannot_be_mapped_is_said(tmp_path, made, message):
    np.save(tmp_path / "a.npy", made)
    with pytest.raises(DataError, match=message):
        open_mapped(tmp_path / "a.npy")


def test_a_file_that_is_no_array_is_said(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"PK no array")
    with pytest.raises(DataError, match=r"a\.npy cannot be mapped"):
        open_mapped(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "other", [np.zeros((20, 3), np.float32), np.zeros((10, 3), np.float32), np.zeros((20, 3), int)]
)
def test_another_file_under_the_same_name_is_refused(path, other):
    sent = pickle.dumps(open_mapped(path))
    np.save(path, other)
    with pytest.raises(DataError, match=r"X\.npy is another file here than where the run was started"):
        pickle.loads(sent)
