import numpy as np
import pytest

from strata.engine.data.config import DataConfig, FormationConfig, PartitionConfig
from strata.engine.data.federated import build
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError
from strata.engine.options import check

SMALL = DataConfig(limit=1200)


def test_default_federation():
    federated = build(SMALL, PartitionConfig(), FormationConfig(), clients=20, teams=4, seed=0)
    assert len(federated.clients) == 20
    assert federated.teams == {team: list(range(5 * team, 5 * team + 5)) for team in range(4)}
    held = [set(federated.dataset.y[np.r_[client.train, client.test]]) for client in federated.clients]
    assert held == [{client % 10, (client + 1) % 10} for client in range(20)]


def test_without_team_tier():
    federated = build(SMALL, PartitionConfig(), FormationConfig("similarity"), clients=5, teams=0, seed=0)
    assert federated.teams == {}


def test_label_noise_reaches_the_dataset_and_not_the_split():
    clean, noisy = (
        build(DataConfig(limit=1200, label_noise=rate), PartitionConfig(), FormationConfig(), 10, 2, 0)
        for rate in (0.0, 0.5)
    )
    train, test = (np.concatenate([getattr(client, side) for client in clean.clients]) for side in ("train", "test"))
    assert (clean.dataset.y != noisy.dataset.y)[train].mean() == 0.5
    assert (clean.dataset.y == noisy.dataset.y)[test].all()
    assert all(np.array_equal(a.train, b.train) for a, b in zip(clean.clients, noisy.clients, strict=True))


def test_updates_are_asked_for_once_with_the_data_that_clients_train_on():
    calls = []

    def updates(dataset, clients):
        calls.append((dataset, clients))
        return np.eye(2)[[client % 2 for client in range(len(clients))]]

    config = DataConfig(limit=1200, label_noise=0.5)
    federated = build(config, PartitionConfig(), FormationConfig("similarity"), 6, 2, 0, updates)
    assert federated.teams == {0: [0, 2, 4], 1: [1, 3, 5]}
    assert len(calls) == 1
    assert calls[0][0] is federated.dataset
    with pytest.raises(DataError, match=r"none are available"):
        build(config, PartitionConfig(), FormationConfig("similarity"), 6, 2, 0)


def test_synthetic_with_its_natural_clients():
    config = DataConfig(name="synthetic", split="client")
    federated = build(config, PartitionConfig("natural"), FormationConfig(), 12, 3, 0)
    assert federated.dataset.natural is None  # as long as the data, and of no use once they are dealt
    natural = load(config, 12, 0).natural
    for index, client in enumerate(federated.clients):
        assert set(natural[np.r_[client.train, client.test]]) == {f"{index:02d}"}


def test_same_seed_same_federation():
    def rows(seed):
        federated = build(SMALL, PartitionConfig("dirichlet"), FormationConfig("random"), 10, 2, seed)
        return [client.train.tolist() for client in federated.clients], federated.teams

    assert rows(7) == rows(7)
    assert rows(7) != rows(8)


def test_defaults_are_within_their_bounds():
    for config in (DataConfig(), PartitionConfig(), FormationConfig()):
        check(config)
