"""Partitions that say who owns what: by natural clients, and by a file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from strata.engine.data.config import PartitionConfig
from strata.engine.data.partition.ownership import file_parts, natural_parts, read_json_lists
from strata.engine.errors import DataError


@pytest.fixture
def owned(make_dataset):
    """Six samples of three natural clients: c has rows 0, 2 and 5, a has 1 and 4, b has 3."""
    dataset = make_dataset(per_class=3, classes=2)
    return replace(dataset, natural=np.array(list("cacbac")))


def natural(dataset, clients, least=2, seed=0):
    return [rows.tolist() for rows in natural_parts(dataset, clients, PartitionConfig(min_samples=least), seed)]


def test_natural_clients_come_in_the_order_of_their_names_with_rows_in_order(owned):
    assert natural(owned, 2) == [[1, 4], [0, 2, 5]]


def test_which_of_many_natural_clients_is_drawn_from_the_seed(make_dataset):
    dataset = make_dataset(per_class=30, classes=2, natural=20)
    drawn = {str(natural(dataset, 3, seed=seed)) for seed in range(5)}
    assert len(drawn) > 1
    assert natural(dataset, 3, seed=1) == natural(dataset, 3, seed=1)


def test_too_few_large_natural_clients_are_refused_with_their_number(owned):
    with pytest.raises(DataError, match=r"3 clients were asked for; made has 3 natural clients, 2 of them with .*to 2"):
        natural(owned, 3)
    with pytest.raises(DataError, match=r"does not say which client .* Set data\.client_column"):
        natural(replace(owned, natural=None), 1)


@pytest.fixture
def listed(owned, tmp_path):
    """The parts of two clients, as a file with this content says."""

    def parts(content):
        path = tmp_path / "owners.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return [rows.tolist() for rows in file_parts(owned, 2, PartitionConfig(path=str(path)))]

    return parts


def test_a_file_says_who_owns_which_rows_and_some_may_be_nobodys(listed):
    assert listed({"1": [4, 0], "0": [5]}) == [[5], [4, 0]]
    assert listed({"0": [], "1": []}) == [[], []]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0": [1]}, "lists 1 clients, expected exactly the ids 0..1"),
        ({"0": [1], "2": [2]}, "lists 2 clients, expected exactly the ids 0..1"),
        ({"0": [1, 2], "1": [2]}, "lists row 2 2 times; a row has one owner"),
        ({"0": [1], "1": [6]}, "lists rows 1..6; made has 0..5"),
        ({"0": [-1], "1": []}, "lists rows -1..-1; made has 0..5"),
        ({"0": [10**30], "1": []}, "has another form than expected"),
        ({"0": [1], "1": [2], "00": [3]}, "has another form than expected"),
        ('{"0": [1], "1": [2], "1": [3]}', "cannot be read (the key '1' is there twice)"),
        ({"0": [1.0], "1": []}, "has another form than expected"),
        ({"0": [True], "1": []}, "has another form than expected"),
        ({"0": 1, "1": []}, "has another form than expected"),
        ({"a": [1], "1": []}, "has another form than expected"),
        ({"-1": [1], "0": []}, "has another form than expected"),
        ([[1], [2]], "has another form than expected"),
        ("{", "cannot be read"),
    ],
    ids=str,
)
def test_a_file_that_says_something_else_is_refused(listed, content, message):
    with pytest.raises(DataError) as caught:
        listed(content)
    assert message in str(caught.value)


def test_a_path_that_leads_nowhere_is_named_by_its_key(tmp_path):
    with pytest.raises(DataError, match=r"partition\.path is empty"):
        read_json_lists("", "partition.path")
    with pytest.raises(DataError, match=r"teams\.formation\.path=.*none\.json cannot be read"):
        read_json_lists(str(tmp_path / "none.json"), "teams.formation.path")
