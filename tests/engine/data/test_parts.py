"""Who holds which rows, as columns: held against lists of lists."""

import hashlib
import pickle

import numpy as np
import pytest

from strata.engine.data.dataset import ClientData
from strata.engine.data.parts import Listed, Parts

LISTS = [[5, 2, 9], [], [0, 7], [1]]
PARTS = Parts.of([np.array(rows, np.int64) for rows in LISTS])


def as_lists(parts):
    return [rows.tolist() for rows in parts]


def test_parts_are_what_they_were_made_of():
    assert as_lists(PARTS) == LISTS
    assert as_lists(PARTS[1:3]) == LISTS[1:3]
    assert PARTS[-1].tolist() == [1]
    assert PARTS.sizes.tolist() == [3, 0, 2, 1]
    assert PARTS.owners.tolist() == [0, 0, 0, 2, 2, 3]
    assert PARTS[0].dtype == np.int64
    with pytest.raises(IndexError):
        PARTS[4]


def test_small_row_numbers_take_half_the_memory_and_large_ones_are_kept():
    assert PARTS.rows.dtype == np.int32
    large = Parts(np.array([2**31, 3]), np.array([1, 1]))
    assert as_lists(large) == [[2**31], [3]]


def test_what_goes_beyond_the_counts_is_nobodys():
    assert as_lists(Parts(np.arange(10), np.array([2, 0, 3]))) == [[0, 1], [], [2, 3, 4]]


def test_piles_are_dealt_in_their_order():
    piles = [
        (np.array([10, 11, 12, 13]), np.array([0, 2]), np.array([1, 2])),  # 13 is nobody's
        (np.array([20, 21]), np.array([0, 1, 2]), np.array([1, 0, 1])),
    ]
    assert as_lists(Parts.dealt(piles, 4)) == [[10, 20], [], [11, 12, 21], []]


def test_rows_in_order_and_some_of_them():
    assert as_lists(PARTS.ascending()) == [sorted(rows) for rows in LISTS]
    even = PARTS.where(PARTS.rows % 2 == 0)
    assert as_lists(even) == [[row for row in rows if row % 2 == 0] for rows in LISTS]


CLIENTS = [
    ClientData(np.array([0, 1, 2]), np.array([6])),
    ClientData(np.array([3, 4]), np.array([5]), np.array([7])),
    ClientData(np.zeros(0, np.int64), np.zeros(0, np.int64)),
]


def digest(rows):
    found = hashlib.sha256()
    rows.digest(found.update)
    return found.hexdigest()


def test_clients_that_are_objects_become_columns():
    listed = Listed.of(CLIENTS)
    for before, after in zip(CLIENTS, listed, strict=True):
        for name in ("train", "test", "validation"):
            assert getattr(before, name).tolist() == getattr(after, name).tolist()
    assert listed.train_sizes.tolist() == [3, 2, 0]
    assert listed.test_sizes.tolist() == [1, 1, 0]
    assert Listed.of(listed) is listed
    assert digest(pickle.loads(pickle.dumps(listed))) == digest(listed)


def test_a_row_on_the_other_side_or_at_another_client_shows():
    moved = [
        [ClientData(np.array([0, 1]), np.array([2, 6])), *CLIENTS[1:]],
        [CLIENTS[0], ClientData(np.array([3]), np.array([5]), np.array([4, 7])), CLIENTS[2]],
        [CLIENTS[1], CLIENTS[0], CLIENTS[2]],
        CLIENTS[:2],
    ]
    prints = [digest(Listed.of(clients)) for clients in (CLIENTS, *moved)]
    assert len(set(prints)) == 5
