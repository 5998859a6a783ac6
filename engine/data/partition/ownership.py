"""Partitions that do not draw: by the client that each sample comes from, and by a file.

# N samples, C clients
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import LEAST_SAMPLES, PartitionConfig
from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.data.parts import Parts
from strata.engine.data.sources.raw import distinct_keys
from strata.engine.errors import DataError
from strata.engine.seeding import generator


def natural_parts(dataset: Dataset, clients: int, config: PartitionConfig, seed: int) -> Parts:
    """The rows of ``clients`` natural clients (those that the samples come from), in the order of the clients' names.

    Where more than that have ``min_samples``, which of them is drawn from the run's seed.

    Raises:
        DataError: if the natural clients are not known, or too few of them have ``min_samples``.
    """
    if dataset.natural is None:
        raise DataError(
            f"{dataset.name} does not say which client a sample comes from. Set data.client_column to the column that "
            "does, or choose another partition.name."
        )
    order, sizes = _by_owner(dataset.natural)
    large = np.flatnonzero(sizes >= config.min_samples)
    if len(large) < clients:
        ways = [f"lower the number of clients to {len(large)}"] * bool(len(large))
        ways += ["lower partition.min_samples"] * (config.min_samples > LEAST_SAMPLES)
        raise DataError(
            f"{clients} clients were asked for; {dataset.name} has {len(sizes)} natural clients, {len(large)} of them "
            f"with partition.min_samples={config.min_samples} samples or more: "
            f"{', or '.join([*ways, 'choose another partition.name'])}."
        )
    chosen = np.sort(generator(seed, "partition", "natural").choice(large, clients, replace=False))
    taken = np.zeros(len(sizes), np.bool_)
    taken[chosen] = True
    return Parts(order[np.repeat(taken, sizes)], sizes[chosen])


def _by_owner(natural: NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Rows ``(N,)`` in the order of their clients' names, and how many each client has, ``(C,)``."""
    names: NDArray[Any] = natural
    order = np.arange(len(names))
    if not np.all(names[:-1] <= names[1:]):
        order = np.argsort(names, kind="stable")
        names = names[order]
    begins = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    return order, np.diff(begins, append=len(names))


def file_parts(dataset: Dataset, clients: int, config: PartitionConfig) -> Parts:
    """Return the rows of each client as a JSON file ``{"0": [row, ...], ...}`` says.

    Raises:
        DataError: if the file cannot be read, names other clients than 0..C-1, or rows that do not exist or repeat.
    """
    return _listed(dataset, clients, read_json_lists(config.path, "partition.path"), config.path)


def given_parts(
    dataset: Dataset, clients: int, config: PartitionConfig, rows: Mapping[int, Sequence[int]] | None
) -> Parts:
    """Return the rows of each client as they were given in Python.

    Raises:
        DataError: if they were not given, are of other clients than 0..C-1, do not exist or repeat; where rows are
            given and ``partition.name`` says something else.
    """
    if rows is None:
        raise DataError(
            "partition.name=given: who holds which rows was given in Python, and no file holds it. Give the same again "
            "as partition=, e.g. strata.run(resume=FOLDER, partition=rows)."
        )
    if config.name != "given":
        raise DataError(f"partition.name={config.name}: rows were given too; expected one of them.")
    return _listed(dataset, clients, rows, "partition")


def _listed(dataset: Dataset, clients: int, listed: Mapping[int, Sequence[int]], where: str) -> Parts:
    if len(listed) != clients or sorted(listed) != list(range(clients)):
        raise DataError(f"{where} lists {len(listed)} clients, expected exactly the ids 0..{clients - 1}.")
    parts = [np.array(listed[client], np.int64) for client in range(clients)]
    rows, counts = np.unique(np.concatenate(parts), return_counts=True)
    if len(rows) and (rows[0] < 0 or rows[-1] >= len(dataset.y)):
        raise DataError(f"{where} lists rows {rows[0]}..{rows[-1]}; {dataset.name} has 0..{len(dataset.y) - 1}.")
    if (counts > 1).any():
        raise DataError(f"{where} lists row {rows[counts.argmax()]} {counts.max()} times; a row has one owner.")
    return Parts.of(parts)


def read_json_lists(path: str, key: str) -> dict[int, list[int]]:
    """Read a JSON file ``{"0": [1, 2], ...}``: lists of whole numbers, by key as a number.

    Raises:
        DataError: if it cannot be read or has another shape; ``key`` is the configuration key of the path.
    """
    shape = '{"0": [1, 2, ...], "1": [...]}'
    if not path:
        raise DataError(f"{key} is empty. Set it to a JSON file of the form {shape}.")
    try:
        content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"), object_pairs_hook=distinct_keys)
    except (OSError, ValueError) as error:
        raise DataError(f"{key}={path} cannot be read ({error}). Expected a JSON file of the form {shape}.") from error
    if not isinstance(content, Mapping) or not all(_is_entry(name, rows) for name, rows in content.items()):
        raise DataError(f"{key}={path} has another form than expected: {shape}, whole numbers only.")
    return {int(name): list(rows) for name, rows in content.items()}


def _is_entry(name: str, rows: object) -> bool:
    """Whether a key is a whole number without leading zeros, and its value a list of whole numbers that fit int64."""
    if not (name.isdecimal() and str(int(name)) == name and isinstance(rows, list)):
        return False
    return all(isinstance(row, int) and not isinstance(row, bool) and abs(row) < 2**63 for row in rows)
