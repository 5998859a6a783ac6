"""Each client's training and test side.

# C clients, K classes, n rows of one client
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.apportion import apportion, balanced_rows, label_counts
from strata.engine.data.config import DataConfig
from strata.engine.data.dataset import ClientData, Dataset, IntArray
from strata.engine.data.parts import ClientRows, Listed, Parts
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


class HeldOut(ClientRows):
    """A share of each client's rows held out as its test data, class by class; at least one row stays on each side.

    Where samples have no classes, of all of a client's rows together.
    """

    def __init__(self, dataset: Dataset, parts: Parts, fraction: float, seed: int) -> None:
        """Hold out the share ``fraction`` of each of the ``parts``.

        Raises:
            DataError: if a client has fewer than 2 rows.
        """
        super().__init__(len(parts))
        sizes = parts.sizes
        if (sizes < 2).any():
            client = int((sizes < 2).argmax())
            raise DataError(f"client {client} has {sizes[client]} samples; it needs one to train and one to test.")
        self._y, self._parts, self._fraction, self._seed = dataset.groups, parts, fraction, seed
        self.test_sizes = _held_out(sizes, fraction).astype(np.int32)
        self.train_sizes = (sizes - self.test_sizes).astype(np.int32)

    def made(self, place: int) -> ClientData:
        """A client's rows, split by a draw of its own."""
        return _split_one(self._y, place, self._parts[place], self._fraction, self._seed)

    @property
    def held(self) -> Parts:
        """The rows of each client before they were split."""
        return self._parts

    def digest(self, update: Callable[[bytes], object]) -> None:
        """Tell a hash, by its ``update``, what the rows follow from; classes, which do so as well, it is told of."""
        self._parts.digest(update)
        update(f"held out: {self._fraction!r}, {self._seed}".encode())


def _held_out(sizes: NDArray[np.integer], fraction: float) -> IntArray:
    """How many of ``sizes`` ``(C,)`` rows a share comes to, at least one, and one less than all of them at most."""
    return np.asarray(np.minimum(np.maximum(np.rint(fraction * sizes).astype(np.int64), 1), sizes - 1))


def _split_one(y: IntArray, client: int, rows: IntArray, fraction: float, seed: int) -> ClientData:
    draws = generator(seed, "partition", "split", client)
    shuffled = draws.permutation(np.sort(np.asarray(rows)))
    test_size = int(_held_out(np.array([len(rows)]), fraction)[0])
    labels = np.asarray(y[shuffled])  # read once from where they may lie on the disk
    by_class = [shuffled[labels == label] for label in np.unique(labels)]
    quotas = apportion(test_size, np.array([len(group) for group in by_class], np.float64))
    # A quota exceeds no class: shares are below the class sizes, and rounding up stays within them.
    test = np.concatenate([group[:quota] for group, quota in zip(by_class, quotas, strict=True)])
    train = np.concatenate([group[quota:] for group, quota in zip(by_class, quotas, strict=True)])
    return ClientData(np.sort(train), np.sort(test))


class Validated(ClientRows):
    """Clients of whose training rows a share is held out for validation, class by class, at least one row.

    A client with a single training row keeps it, and has no validation rows.
    """

    def __init__(self, dataset: Dataset, clients: ClientRows, fraction: float, seed: int) -> None:
        """Hold out the share ``fraction`` of the training rows of each of the ``clients``."""
        super().__init__(len(clients))
        self._y, self._clients, self._fraction, self._seed = dataset.groups, clients, fraction, seed
        before = clients.train_sizes
        self.test_sizes = clients.test_sizes
        self.train_sizes = np.where(before > 1, before - _held_out(before, fraction), before)

    def made(self, place: int) -> ClientData:
        """A client's rows, its training rows split by a draw of its own."""
        rows = self._clients[place]
        if len(rows.train) < 2:
            return rows
        sides = _split_one(self._y, place, rows.train, self._fraction, derive(self._seed, "validation"))
        return ClientData(sides.train, rows.test, sides.test)

    def digest(self, update: Callable[[bytes], object]) -> None:
        """Tell a hash, by its ``update``, what the rows follow from."""
        self._clients.digest(update)
        update(f"validation: {self._fraction!r}, {self._seed}".encode())


def with_validation(dataset: Dataset, clients: Sequence[ClientData], fraction: float, seed: int) -> ClientRows:
    """The clients as :class:`Validated`, or as they are where the share to be held out is 0."""
    rows = Listed.of(clients)
    return Validated(dataset, rows, fraction, seed) if fraction else rows


def server_rows(dataset: Dataset, data: DataConfig, seed: int) -> ClientData:
    """The rows that servers hold before any are dealt: class-balanced shares to train on and to test on.

    Test rows are of the published test split where clients' are; else they are drawn before those to train on, so that
    a run without the latter is tested on the same.

    Raises:
        DataError: for a share that comes to nothing.
    """
    if not (data.server_fraction or data.server_test_fraction):
        return ClientData(np.zeros(0, np.int64), np.zeros(0, np.int64))
    every, published = np.arange(len(dataset.y)), data.split == "published"
    training = every[~test_flags(dataset)] if published else every
    pool = np.setdiff1d(every, training) if published else every
    test = _share(dataset, pool, data.server_test_fraction, seed, "test")
    return ClientData(_share(dataset, np.setdiff1d(training, test), data.server_fraction, seed, "train"), test)


def _share(dataset: Dataset, pool: IntArray, fraction: float, seed: int, purpose: str) -> IntArray:
    """A share of some rows, balanced by class, ascending."""
    draws, size = generator(seed, "server rows", purpose), round(fraction * len(pool))
    if fraction and not size:
        raise DataError(f"{fraction:g} of {len(pool)} rows is none to {purpose} the server with. Raise the fraction.")
    return np.sort(balanced_rows(dataset.groups, pool, size, dataset.group_count, draws))


def published_holdout(dataset: Dataset, parts: Parts, seed: int, held: IntArray) -> ClientRows:
    """Deal the published test rows: of each class, every client gets the share that it got of the training rows.

    Test rows of classes that no client trains on are left out. A client whose shares all round to zero receives one
    test row of the class it holds most of. Rows that are ``held`` by servers are dealt to nobody.

    Raises:
        DataError: if there are not enough test rows for that.
    """
    draws = generator(seed, "partition", "published")
    groups = dataset.groups
    counts_CK = label_counts(groups, parts, dataset.group_count)
    pool, piles = np.setdiff1d(np.flatnonzero(test_flags(dataset)), held), []
    for label in np.flatnonzero(counts_CK.sum(axis=0)):
        rows = draws.permutation(pool[groups[pool] == label])
        piles.append((rows, np.arange(len(parts)), apportion(len(rows), counts_CK[:, label].astype(np.float64))))
    test = _give_everyone_one(dataset, Parts.dealt(piles, len(parts)), counts_CK)
    return Listed(parts.ascending(), test.ascending())


def _give_everyone_one(dataset: Dataset, dealt: Parts, counts_CK: IntArray) -> Parts:
    """Move one test row to each client without any."""
    empty = np.flatnonzero(dealt.sizes == 0).tolist()
    if not empty:
        return dealt
    test = [rows.tolist() for rows in dealt]
    for client in empty:
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
    return Parts.of([np.array(rows, np.int64) for rows in test])


def _spare_row(dataset: Dataset, test: list[list[int]], label: int) -> tuple[int, int] | None:
    """(client, row) of that label, from the client with most test rows that can spare one."""
    for donor in sorted(range(len(test)), key=lambda client: (-len(test[client]), client)):
        row = next((row for row in test[donor] if dataset.groups[row] == label), None)
        if row is not None and len(test[donor]) > 1:
            return donor, row
    return None


def published_sides(dataset: Dataset, owned: Parts) -> ClientRows:
    """Each client's own rows by published split, for partitions that assign the test rows as well.

    Raises:
        DataError: if a client has no row in one of the splits.
    """
    ordered = owned.ascending()
    is_test = test_flags(dataset)[ordered.rows]
    train, test = ordered.where(~is_test), ordered.where(is_test)
    empty = np.flatnonzero((train.sizes == 0) | (test.sizes == 0))
    if len(empty):
        raise DataError(
            f"{len(empty)} of {len(owned)} clients (the first is {empty[0]}) have no row in the published "
            f"{'training' if not train.sizes[empty[0]] else 'test'} split. Set data.split=client."
        )
    return Listed(train, test)
