"""Each client's training and test side.

# C clients, K classes, n rows of one client
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.apportion import apportion, deal, label_counts
from strata.engine.data.config import DataConfig
from strata.engine.data.dataset import ClientData, Dataset, IntArray
from strata.engine.errors import DataError
from strata.engine.seeding import derive, generator


def test_flags(dataset: Dataset) -> NDArray[np.bool_]:
    """Which samples belong to the published test split, ``(N,)`` bool.

    Raises:
        DataError: if there is none.
    """
    if dataset.natural_test is None:
        raise DataError(f"{dataset.name} has no published test split. Set data.split=client.")
    return dataset.natural_test


def stratified_holdout(dataset: Dataset, parts: Sequence[IntArray], data: DataConfig, seed: int) -> list[ClientData]:
    """Hold out ``test_fraction`` of each client's rows, class by class; at least one row stays on each side.

    Raises:
        DataError: if a client has fewer than 2 rows.
    """
    return [_split_one(dataset, client, rows, data.test_fraction, seed) for client, rows in enumerate(parts)]


def _split_one(dataset: Dataset, client: int, rows: IntArray, fraction: float, seed: int) -> ClientData:
    if len(rows) < 2:
        raise DataError(f"client {client} has {len(rows)} samples; it needs one to train and one to test.")
    draws = generator(seed, "partition", "split", client)
    shuffled = draws.permutation(np.sort(rows))
    test_size = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
    by_class = [shuffled[dataset.y[shuffled] == label] for label in np.unique(dataset.y[shuffled])]
    quotas = apportion(test_size, np.array([len(group) for group in by_class], np.float64))
    # A quota exceeds no class: shares are below the class sizes, and rounding up stays within them.
    test = np.concatenate([group[:quota] for group, quota in zip(by_class, quotas, strict=True)])
    train = np.concatenate([group[quota:] for group, quota in zip(by_class, quotas, strict=True)])
    return ClientData(np.sort(train), np.sort(test))


def with_validation(dataset: Dataset, clients: list[ClientData], fraction: float, seed: int) -> list[ClientData]:
    """Hold out ``fraction`` of each client's training rows for validation, class by class, at least one row.

    A client with a single training row keeps it, and has no validation rows.
    """
    if not fraction:
        return clients
    validated = []
    for client, rows in enumerate(clients):
        if len(rows.train) > 1:
            sides = _split_one(dataset, client, rows.train, fraction, derive(seed, "validation"))
            rows = ClientData(sides.train, rows.test, sides.test)
        validated.append(rows)
    return validated


def published_holdout(dataset: Dataset, parts: Sequence[IntArray], seed: int) -> list[ClientData]:
    """Deal the published test rows: of each class, every client gets the share that it got of the training rows.

    Test rows of classes that no client trains on are left out. A client whose shares all round to zero receives one
    test row of the class it holds most of.

    Raises:
        DataError: if there are not enough test rows for that.
    """
    draws = generator(seed, "partition", "published")
    counts_CK = label_counts(dataset.y, parts, dataset.classes)
    test: list[list[int]] = [[] for _ in parts]
    pool = np.flatnonzero(test_flags(dataset))
    for label in np.flatnonzero(counts_CK.sum(axis=0)):
        rows = draws.permutation(pool[dataset.y[pool] == label])
        for client, part in enumerate(deal(rows, apportion(len(rows), counts_CK[:, label].astype(np.float64)))):
            test[client].extend(part.tolist())
    _give_everyone_one(dataset, test, counts_CK)
    return [ClientData(np.sort(rows), np.sort(np.array(own, np.int64))) for rows, own in zip(parts, test, strict=True)]


def _give_everyone_one(dataset: Dataset, test: list[list[int]], counts_CK: IntArray) -> None:
    """Move one test row to each client without any."""
    for client in [client for client, rows in enumerate(test) if not rows]:
        held = [label for label in np.argsort(-counts_CK[client], kind="stable") if counts_CK[client, label]]
        found = next((row for label in held if (row := _spare_row(dataset, test, int(label))) is not None), None)
        if found is None:
            raise DataError(
                f"client {client} gets none of the {int(test_flags(dataset).sum())} published test samples of "
                f"{dataset.name} ({len(test)} clients). Set data.split=client or lower the number of clients."
            )
        donor, given = found
        test[donor].remove(given)
        test[client].append(given)


def _spare_row(dataset: Dataset, test: list[list[int]], label: int) -> tuple[int, int] | None:
    """(client, row) of that label, from the client with most test rows that can spare one."""
    for donor in sorted(range(len(test)), key=lambda client: (-len(test[client]), client)):
        row = next((row for row in test[donor] if dataset.y[row] == label), None)
        if row is not None and len(test[donor]) > 1:
            return donor, row
    return None


def published_sides(dataset: Dataset, owned: Sequence[IntArray]) -> list[ClientData]:
    """Each client's own rows by published split, for partitions that assign the test rows as well.

    Raises:
        DataError: if a client has no row in one of the splits.
    """
    flags = test_flags(dataset)
    sides = [ClientData(np.sort(rows[~flags[rows]]), np.sort(rows[flags[rows]])) for rows in owned]
    empty = [client for client, side in enumerate(sides) if not len(side.train) or not len(side.test)]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(sides)} clients (the first is {empty[0]}) have no row in the published "
            f"{'training' if not len(sides[empty[0]].train) else 'test'} split. Set data.split=client."
        )
    return sides
