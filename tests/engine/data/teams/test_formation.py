import json
from typing import get_args

import numpy as np
import pytest

from strata.engine.data.config import DataConfig, FormationConfig, FormationName, PartitionConfig
from strata.engine.data.partition.dealing import partition
from strata.engine.data.teams.clusters import cosine_clusters
from strata.engine.data.teams.formation import agglomerated, average_sets, by_label_sets, form_teams, worst_sets
from strata.engine.errors import DataError


@pytest.fixture
def federation(make_dataset):
    """Twenty clients with the labels (u, u+1) mod 10."""
    dataset = make_dataset()
    return dataset, partition(dataset, 20, PartitionConfig("labels"), DataConfig(), 0)


def planted(sizes, seed=0, noise=0.2, dimensions=50):
    """Updates around one random direction a group, of very different lengths, shuffled; and the group of each."""
    draws = np.random.default_rng(seed)
    groups = draws.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = draws.normal(size=(len(sizes), dimensions))
    vectors = centres[groups] + noise * draws.normal(size=(len(groups), dimensions))
    return vectors * draws.lognormal(0, 2, (len(groups), 1)), groups


def as_sets(teams):
    return {frozenset(members) for members in teams.values()}


@pytest.mark.parametrize("teams", [1, 2, 3, 7])
@pytest.mark.parametrize("name", [name for name in get_args(FormationName) if name not in ("file", "worst", "average")])
def test_every_client_in_exactly_one_team(federation, name, teams):
    dataset, clients = federation
    vectors = planted([20])[0]
    config = FormationConfig(name)
    formed = form_teams(dataset, clients, teams, config, 0, lambda: vectors)
    assert list(formed) == list(range(teams))
    assert sorted(client for members in formed.values() for client in members) == list(range(20))
    assert all(members == sorted(members) and members for members in formed.values())
    assert all(type(client) is int for members in formed.values() for client in members)
    assert formed == form_teams(dataset, clients, teams, config, 0, lambda: vectors)
    if name in ("sequential", "random", "labels"):
        sizes = [len(members) for members in formed.values()]
        assert max(sizes) - min(sizes) <= 1


def test_sequential_blocks(federation):
    formed = form_teams(*federation, 3, FormationConfig("sequential"), 0)
    assert formed == {0: list(range(7)), 1: list(range(7, 14)), 2: list(range(14, 20))}


def test_random_follows_the_seed(federation):
    first, second = (form_teams(*federation, 4, FormationConfig("random"), seed) for seed in (0, 1))
    assert first != second
    assert as_sets(first) != as_sets(form_teams(*federation, 4, FormationConfig("sequential"), 0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["similarity", "hierarchical"])
def test_planted_updates_are_found_whatever_their_length(make_dataset, name, seed):
    vectors, groups = planted([12, 5, 3, 1], seed)
    dataset = make_dataset()
    clients = partition(dataset, 21, PartitionConfig("iid"), DataConfig(), 0)
    formed = form_teams(dataset, clients, 4, FormationConfig(name), seed, lambda: vectors)
    assert as_sets(formed) == {frozenset(np.flatnonzero(groups == group).tolist()) for group in range(4)}
    assert formed[0][0] == 0  # numbered by smallest member


def test_planted_label_groups_are_found(make_dataset):
    # Clients u hold labels {u, u+1} mod 10 with 2 labels a client; only every other one is kept, so that five groups
    # with disjoint labels {0,1}, {2,3}, .. are left, four clients each.
    dataset = make_dataset()
    everyone = partition(dataset, 40, PartitionConfig("labels"), DataConfig(), 0)
    clients = everyone[0::2]
    formed = form_teams(dataset, clients, 5, FormationConfig("labels"), 0)
    assert as_sets(formed) == {frozenset(range(group, 20, 5)) for group in range(5)}


def test_balanced_clusters_split_a_large_group(make_dataset):
    vectors, groups = planted([9, 3])
    labels = cosine_clusters(vectors, 2, np.random.default_rng(0), balanced=True)
    assert np.bincount(labels).tolist() == [6, 6]
    assert len(set(labels[groups == 1])) == 1  # the small group stays together
    free = cosine_clusters(vectors, 2, np.random.default_rng(0), balanced=False)
    assert sorted(np.bincount(free).tolist()) == [3, 9]


@pytest.mark.parametrize("balanced", [True, False])
def test_identical_and_zero_vectors_still_fill_all_clusters(balanced):
    for vectors in (np.ones((6, 3)), np.zeros((6, 3))):
        labels = cosine_clusters(vectors, 4, np.random.default_rng(0), balanced=balanced)
        assert set(labels) == {0, 1, 2, 3}
        assert set(agglomerated(vectors, 4)) == {0, 1, 2, 3}


def test_published_label_sets():
    assert worst_sets(10, 2) == [{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}]
    assert average_sets(10, 2) == [{0, 1, 2, 3, 4, 5, 6}, {5, 6, 7, 8, 9, 0, 1}]
    assert worst_sets(7, 3) == [{0, 1, 2}, {3, 4}, {5, 6}]
    assert average_sets(7, 3) == [{0, 1, 2, 3}, {3, 4, 5}, {5, 6, 0}]


def test_worst_puts_clients_where_their_labels_are(federation):
    formed = form_teams(*federation, 2, FormationConfig("worst"), 0)
    # Clients u and u+10 hold {u, u+1}. 0..3 lie in {0..4}, 5..8 in {5..9}. 4 and 9 hold one label of each set: a tie,
    # which goes to the smaller team when their turn comes: 4 joins team 1 (0..3 sit in team 0), 9 joins team 0
    # (4, 5, 6, 7, 8 sit in team 1), 14 again finds 9 against 5 members, 19 finds 9 against 10.
    assert formed[0] == [0, 1, 2, 3, 9, 10, 11, 12, 13, 19]
    assert formed[1] == [4, 5, 6, 7, 8, 14, 15, 16, 17, 18]


def test_average_overlaps(federation):
    formed = form_teams(*federation, 2, FormationConfig("average"), 0)
    assert {2, 3, 4, 12, 13, 14} <= set(formed[0])  # {2,3}, {3,4}, {4,5} are wholly in the first set only
    assert {7, 8, 9, 17, 18, 19} <= set(formed[1])
    assert sorted(formed[0] + formed[1]) == list(range(20))


def test_ties_go_to_the_smaller_team():
    counts = np.array([[5, 5], [5, 5], [9, 1], [5, 5]])
    assert by_label_sets(counts, [{0}, {1}], "worst") == {0: [0, 2], 1: [1, 3]}


def test_file(federation, tmp_path):
    path = tmp_path / "teams.json"
    path.write_text(json.dumps({"1": list(range(19, 4, -1)), "0": [4, 0, 1, 2, 3]}))
    formed = form_teams(*federation, 2, FormationConfig("file", str(path)), 0)
    assert formed == {0: [0, 1, 2, 3, 4], 1: list(range(5, 20))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0": list(range(20))}, r"lists the teams \[0\], expected 0\.\.1"),
        ({"0": list(range(20)), "1": []}, "none of them empty"),
        ({"0": list(range(19)), "1": [20]}, r"exactly once; missing, unknown or repeated: \[19, 20\]"),
        ({"0": list(range(20)), "1": [3]}, r"repeated: \[3\]"),
    ],
)
def test_file_errors(federation, tmp_path, content, message):
    path = tmp_path / "teams.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        form_teams(*federation, 2, FormationConfig("file", str(path)), 0)


@pytest.mark.parametrize(
    ("name", "teams", "updates", "message"),
    [
        ("sequential", 21, None, "21 teams were asked for 20 clients; expected 1 to 20"),
        ("random", 0, None, "0 teams were asked for"),
        ("file", 2, None, "teams.formation.path is empty"),
        ("similarity", 2, None, "compares model updates, and none are available here. Choose sequential"),
        ("hierarchical", 2, lambda: np.ones((19, 4)), r"updates have shape \(19, 4\), expected \(20, D\)"),
        ("similarity", 2, lambda: np.full((20, 4), np.nan), "the update of client 0 is not finite"),
        ("worst", 11, None, "11 teams for 10 classes. Use at most 10 teams"),
        ("average", 1, None, "needs at least 2 teams"),
    ],
)
def test_errors(federation, name, teams, updates, message):
    with pytest.raises(DataError, match=message):
        form_teams(*federation, teams, FormationConfig(name), 0, updates)


def test_an_empty_team_is_an_error(make_dataset):
    dataset = make_dataset()
    clients = partition(dataset, 4, PartitionConfig("labels", labels_per_client=1), DataConfig(), 0)
    with pytest.raises(DataError, match=r"no client holds mostly the labels \[5, 6, 7, 8, 9\] of team 1"):
        form_teams(dataset, clients, 2, FormationConfig("worst"), 0)
