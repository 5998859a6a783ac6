"""From a name in the configuration to a data set in memory.

The embedded set needs nothing. Everything else is local files under ``data.root``, a path, the hub, or generated;
nothing is downloaded behind the user's back: `strata fetch` does, when it is asked to.
"""

import dataclasses
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.apportion import balanced_rows
from strata.engine.data.config import DataConfig
from strata.engine.data.dataset import Dataset
from strata.engine.data.sources.arrays import read_npz
from strata.engine.data.sources.formats import read_local, refuse_pickle
from strata.engine.data.sources.raw import Raw, to_dataset
from strata.engine.data.sources.synthetic import generate
from strata.engine.errors import DataError
from strata.engine.seeding import generator

EMBEDDED = "fashion_mnist_12k"
EMBEDDED_FILE = Path(__file__).parent / "embedded" / f"{EMBEDDED}.npz"
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

_IDX_LAYOUT = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-..., t10k-labels-... (.gz or not)"
KNOWN = {  # name: (format, its name on the hub, the files expected in data.root/NAME)
    "mnist": ("idx", "hub:ylecun/mnist", _IDX_LAYOUT),
    "fashion_mnist": ("idx", "hub:zalando-datasets/fashion_mnist", _IDX_LAYOUT),
    "emnist": ("idx", "hub:OWNER/NAME", "emnist-digits-train-images-idx3-ubyte.gz and its three companions"),
    "cifar10": ("cifar", "hub:uoft-cs/cifar10", "the binary version: data_batch_1.bin .. 5, test_batch.bin"),
    "cifar100": ("cifar", "hub:uoft-cs/cifar100 data.target=fine_label", "the binary version: train.bin, test.bin"),
}


@cache
def _embedded() -> Raw:
    """The set that ships with Strata, which the runs of a comparison share: nobody writes to its arrays."""
    raw = read_npz(EMBEDDED_FILE, DataConfig())
    for array in (raw.x, raw.labels, raw.test):
        if array is not None:
            array.setflags(write=False)
    return dataclasses.replace(raw, names=GARMENTS)


def data_root(config: DataConfig) -> Path:
    """Where local sets are looked for: ``data.root``, else ``$STRATA_DATA``, else ``~/.cache/strata``."""
    return Path(config.root or os.environ.get("STRATA_DATA") or "~/.cache/strata").expanduser()


MEMORY = "memory:"  # begins the name of a data set that is given in Python


def load(config: DataConfig, clients: int, seed: int, own: Dataset | None = None) -> Dataset:
    """Load the data set that a configuration names.

    Args:
        config: the ``data`` part of the configuration.
        clients: number of clients C; only ``synthetic`` generates data by it.
        seed: the run's seed; ``synthetic`` and ``data.limit`` draw from it.
        own: the data set that was given in Python, for the name ``memory:NAME``.

    Raises:
        DataError: if the set is missing or malformed, ``data.text`` is set for one that is no table, or ``data.limit``
            is smaller than the number of classes.
    """
    dataset = (
        _own(config, own) if own is not None or config.name.startswith(MEMORY) else _load_whole(config, clients, seed)
    )
    if config.text and not dataset.vocabulary:
        raise DataError(
            f"data.text={config.text}: {dataset.name} is no table, so it has no column of text. Expected a csv, tsv, "
            "parquet, jsonl or hub set; leave data.text empty for others."
        )
    return dataset if not config.limit else limited(dataset, config.limit, seed)


def _own(config: DataConfig, own: Dataset | None) -> Dataset:
    if own is None:
        raise DataError(
            f"data.name={config.name}: these data were given in Python, and no file holds them. Give the same again as "
            "data=, e.g. strata.run(resume=FOLDER, data=data) or strata.load_run(FOLDER, data=data)."
        )
    if config.name != f"{MEMORY}{own.name}":
        raise DataError(f"data.name={config.name}: data named {own.name} were given; expected none, or those.")
    return own


def _load_whole(config: DataConfig, clients: int, seed: int) -> Dataset:
    name = config.name
    if name == EMBEDDED:
        return to_dataset(_embedded(), name, name, config)
    if name == "synthetic":
        return to_dataset(
            generate(config, clients, seed), f"synthetic({config.alpha:g}, {config.beta:g})", name, config
        )
    if name.startswith("hub:"):
        from strata.engine.data.sources.hub import read_hub  # pandas, half a second that only tables need

        return to_dataset(read_hub(name.removeprefix("hub:"), data_root(config), config), name, name, config)
    path = locate(config)
    title = name if name in KNOWN else re.sub(r"_train$", "", path.stem, flags=re.I)
    return to_dataset(_named(read_local(path, config), name), title, str(path), config)


def _named(raw: Raw, name: str) -> Raw:
    """Give Fashion-MNIST its class names, which its files do not carry; any other set stays as it is."""
    if name == "fashion_mnist" and set(np.unique(raw.labels)) <= set(range(len(GARMENTS))):
        return dataclasses.replace(raw, names=GARMENTS)
    return raw


def locate(config: DataConfig) -> Path:
    """Find a local set: a known name lies under the root; another is a path, or lies there too.

    ``DIR/NAME`` also finds ``DIR/NAME_TRAIN.tsv``, as the UCR archive names its files.

    Raises:
        DataError: if there is none, with the ways to get the set.
    """
    root, given = data_root(config), Path(config.name).expanduser()
    refuse_pickle(given)
    places = [root / config.name] if config.name in KNOWN else [given, root / config.name]
    for place in places:
        place = place.resolve() if config.name and place.name in ("", "..") else place
        for candidate in (place, place.parent / f"{place.name}_TRAIN.tsv"):
            if config.name and _is_there(candidate):
                return _readable(candidate)
    raise DataError(_missing(config, places))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise DataError(f"{path} cannot be looked at ({error.strerror}). Give yourself permission to.") from error


def _readable(path: Path) -> Path:
    """The path, if a data set can lie there: what else there is would be read without end."""
    if path == Path(path.anchor):
        raise DataError(f"data.name={path}: expected the folder of a data set, and this is the whole file system.")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"data.name={path}: expected a file or a folder; this is a pipe, a socket or a device.")
    return path


def _missing(config: DataConfig, places: list[Path]) -> str:
    _, hub, layout = KNOWN.get(
        config.name,
        (
            "",
            "hub:OWNER/NAME",
            "IDX, CIFAR binary, a folder of pictures per class, csv, tsv, parquet, jsonl, npz or npy",
        ),
    )
    first = f"`strata fetch {config.name}` downloads it. Or" if config.name in KNOWN else "Three ways to get one"
    return (
        f"data set {config.name!r} was not found: there is no {' and no '.join(map(str, places))}. {first}: "
        f'(1) the hub: pip install "strata-fl[hub]" and data.name={hub}; (2) a local folder '
        f"{places[-1]} with {layout} (data.root or $STRATA_DATA moves the root); (3) data.name={EMBEDDED}, which ships "
        f"with Strata, as does the generator data.name=synthetic. Names it knows: {', '.join(KNOWN)}."
    )


def limited(dataset: Dataset, limit: int, seed: int) -> Dataset:
    """At most ``limit`` samples, as many of each class as there are, up to an equal share; rows keep their order.

    A published test split keeps its share of the samples.

    Raises:
        DataError: if ``limit`` is smaller than the number of classes.
    """
    if limit >= len(dataset.y):
        return dataset
    groups, count = dataset.groups, dataset.group_count
    if limit < count:
        raise DataError(f"data.limit={limit} leaves some of the {count} classes empty. Raise it, or use 0.")
    test = np.zeros(len(dataset.y), np.bool_) if dataset.natural_test is None else dataset.natural_test
    test_limit = round(limit * float(test.mean()))
    draws = generator(seed, "limit")
    chosen = [
        balanced_rows(groups, np.flatnonzero(test == is_test), size, count, draws)
        for is_test, size in ((False, limit - test_limit), (True, test_limit))
    ]
    return take(dataset, np.sort(np.concatenate(chosen)))


def take(dataset: Dataset, rows: NDArray[np.int64]) -> Dataset:
    """The same data set with only the samples ``rows`` ``(n,)`` of it, in that order."""
    return dataclasses.replace(
        dataset,
        x=dataset.x[rows],
        y=dataset.y[rows],
        natural=None if dataset.natural is None else dataset.natural[rows],
        natural_test=None if dataset.natural_test is None else dataset.natural_test[rows],
    )
