"""A large population costs what is done with it: nothing is made of clients whom nobody asks about."""

import sys
from pathlib import Path

import numpy as np
import pytest

from strata.engine.data.partition.holdout import HeldOut
from strata.engine.federation import Federation
from tests.helpers.small import small

CLIENTS, COHORT = 20_000, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty thousand clients with four samples each, on the disk."""
    rng, where = np.random.default_rng(0), tmp_path_factory.mktemp("population")
    np.save(where / "X.npy", rng.normal(size=(4 * CLIENTS, 6)).astype(np.float32))
    np.save(where / "y.npy", rng.integers(0, 3, 4 * CLIENTS))
    np.save(where / "client.npy", np.repeat(np.arange(CLIENTS), 4))
    return where


def words(folder, *more):
    return (
        f"data={folder}",
        "data.limit=0",
        "partition=natural",
        "partition.min_samples=2",
        f"clients.count={CLIENTS}",
        f"clients.participation={COHORT / CLIENTS}",
        f"evaluation.clients={COHORT}",
        "model=mclr",
        "rounds=3",
        *more,
    )


@pytest.mark.parametrize("method", ["fedavg", "lg_fedavg"])
def test_rows_are_split_of_clients_that_train_or_are_evaluated_only(folder, monkeypatch, method, tmp_path):
    made, real = [], HeldOut.made
    monkeypatch.setattr(HeldOut, "made", lambda self, place: made.append(place) or real(self, place))
    with Federation(small(method, *words(folder))) as federation:
        assert made == []
        records = list(federation)
        path = federation.save(tmp_path)
        federation.restore(path)
    called = {int(client) for record in records for client in record.calls.client}
    scored = {client for record in records for client in next(iter(record.scores.values())).clients}
    assert len(called) == 3 * COHORT
    assert set(made) == called | scored
    assert len(made) == len(set(made))


def in_view(path):
    """Bytes of a file that this process has in its memory, by its maps."""
    found, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.partition(" ")[0]:
            ours = line.endswith(str(path))
        elif ours and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says what is in view")
def test_no_more_of_data_on_the_disk_is_in_memory_than_what_is_trained_with(folder):
    with Federation(small("fedavg", *words(folder))) as federation:
        assert [in_view(folder / name) for name in ("X.npy", "y.npy")] == [0, 0]
        federation.run_round()
        assert [in_view(folder / name) for name in ("X.npy", "y.npy")] == [0, 0]
        assert federation.world.infos[17_000].label_counts.sum() == 3
        assert in_view(folder / "y.npy") == 0
        server = federation.world.data.server
        assert (server.train.base, server.test.base) == (None, None)  # of none, nothing, and not of all rows
        labels = federation.world.data.dataset.y
        assert labels.sum() > 0
        assert in_view(folder / "y.npy") >= 8 * len(labels)  # whoever reads them has them


def test_a_client_has_the_same_bits_among_many_and_among_few(folder, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for name in ("X", "y", "client"):
        np.save(few / f"{name}.npy", np.load(folder / f"{name}.npy")[: 4 * 50])
    with Federation(small("fedavg", *words(folder))) as many:
        large = many.world
    with Federation(small("fedavg", *words(few), "clients.count=50", "clients.participation=0.2")) as federation:
        small_world = federation.world
    for client in (0, 17, 49):
        for side in ("train", "test"):
            mine, theirs = (getattr(world.data.clients[client], side) for world in (large, small_world))
            assert mine.tolist() == theirs.tolist()
        assert large.infos[client].train_samples == large.train_samples[client] == 3
