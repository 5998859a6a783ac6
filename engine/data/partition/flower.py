"""The partitioners of ``flwr-datasets``, by name: the field's standard collection, an optional extra."""

import inspect
import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import PartitionConfig
from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.data.parts import Parts
from strata.engine.errors import DataError
from strata.engine.seeding import derive, generator

if TYPE_CHECKING:
    from datasets import Dataset as Table
    from flwr_datasets.partitioner import Partitioner

ROW = "row"


def flower_parts(dataset: Dataset, pool: IntArray, clients: int, config: PartitionConfig, seed: int) -> Parts:
    """Return the rows of each client as ``partition.partitioner`` deals them.

    The partitioner sees a table with the columns ``label`` and, where natural clients are known, ``client``; its rows
    are shuffled beforehand, because some partitioners cut consecutive blocks. ``num_partitions``, ``partition_by`` and
    ``seed`` are filled in where it takes them; ``partition.options`` adds to them and overrides them.

    Args:
        dataset: the samples.
        pool: the rows to deal.
        clients: number of clients C.
        config: names the partitioner and its options.
        seed: the run's seed.

    Raises:
        DataError: if the extra is not installed, there is no such partitioner, it refuses its options, it makes
            another number of partitions, or it gives a row to several of them.
    """
    partitioner = _construct(dataset, config, clients, seed)
    rows = generator(seed, "partition", "flwr").permutation(pool)
    columns = {"label": dataset.groups[rows], ROW: rows}
    if dataset.natural is not None:
        columns["client"] = dataset.natural[rows].astype(object)
    try:
        parts = _load_partitions(partitioner, columns, clients, config)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{config.partitioner} cannot deal {len(pool)} samples of {dataset.name}: {error}") from error
    dealt = [np.array(part[ROW][:], np.int64) for part in parts]
    if len(np.unique(np.concatenate(dealt))) != sum(map(len, dealt)):
        raise DataError(f"{config.partitioner} gives a sample to several clients; rows of clients must be disjoint.")
    return Parts.of(dealt)


def _load_partitions(
    partitioner: "Partitioner", columns: dict[str, NDArray[np.generic]], clients: int, config: PartitionConfig
) -> "list[Table]":
    """Return the partitions, as tables of ``datasets``."""
    from datasets import Dataset as Table

    with warnings.catch_warnings():
        # datasets sorts by a keyword that pyarrow 25 deprecates; nothing that we or the user could change.
        warnings.filterwarnings("ignore", message="Specifying null_placement", category=FutureWarning)
        partitioner.dataset = Table.from_dict(columns)
        count = int(partitioner.num_partitions)
        if count != clients:
            raise DataError(
                f"{config.partitioner} makes {count} partitions, {clients} clients were asked for. Set the number of "
                f"clients to {count}, or change partition.options."
            )
        return [partitioner.load_partition(client) for client in range(clients)]


def _construct(dataset: Dataset, config: PartitionConfig, clients: int, seed: int) -> "Partitioner":
    """Return the partitioner, with what it takes of the number of clients, the label column and a seed."""
    known = _partitioners()
    if config.partitioner not in known:
        raise DataError(
            f"flwr-datasets has no partitioner {config.partitioner!r}. Set partition.partitioner to one of: "
            f"{', '.join(sorted(known))}."
        )
    kind = known[config.partitioner]
    column = "client" if "Natural" in config.partitioner else "label"
    if column == "label" and "partition_by" in inspect.signature(kind).parameters:
        dataset.require_classes(f"partition.partitioner={config.partitioner}", "IidPartitioner, or partition.name=iid")
    filled = {"num_partitions": clients, "partition_by": column, "seed": derive(seed, "partition", "flwr") % 2**31}
    taken = inspect.signature(kind).parameters
    arguments = {name: value for name, value in filled.items() if name in taken} | config.options
    if "distribution_array" in arguments:  # a list in a YAML file
        arguments["distribution_array"] = np.asarray(arguments["distribution_array"])
    try:
        return kind(**arguments)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{config.partitioner}({', '.join(taken)}) refuses partition.options={config.options}: {error}"
        ) from error


def _partitioners() -> "dict[str, type[Partitioner]]":
    """Return the partitioners of the installed flwr-datasets that deal rows, by name."""
    try:
        from flwr_datasets import partitioner
    except ImportError as error:
        raise DataError(
            'partition.name=flwr needs flwr-datasets, which is not installed: pip install "strata-fl[hub]".'
        ) from error
    return {
        name: getattr(partitioner, name)
        for name in partitioner.__all__
        if name != "Partitioner" and not name.startswith("Vertical")
    }
