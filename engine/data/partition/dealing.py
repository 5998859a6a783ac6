"""Dealing samples to clients, then each client's samples to its training and test side.

Every draw comes from the run's seed, so the same configuration gives the same federation on every machine.

# N samples, C clients, K classes; "pool": the rows that are dealt (all of them, or the published training split)
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.apportion import apportion, top_up
from strata.engine.data.config import LEAST_SAMPLES, DataConfig, PartitionConfig, SizesName
from strata.engine.data.dataset import ClientData, Dataset, IntArray
from strata.engine.data.partition.flower import flower_parts
from strata.engine.data.partition.holdout import HeldOut, published_holdout, published_sides, test_flags
from strata.engine.data.partition.ownership import file_parts, given_parts, natural_parts
from strata.engine.data.parts import ClientRows, Parts
from strata.engine.data.sources.labels import KEEP
from strata.engine.errors import DataError
from strata.engine.seeding import generator

OWNED = ("natural", "file", "given")
"""Partitions that draw no rows: each row's client is known."""


def partition(
    dataset: Dataset,
    clients: int,
    config: PartitionConfig,
    data: DataConfig,
    seed: int,
    rows: Mapping[int, Sequence[int]] | None = None,
    held: IntArray | None = None,
) -> ClientRows:
    """Deal the samples to clients and hold out each client's test data.

    With ``data.split: client`` all samples are dealt and each client's are split by ``data.test_fraction``. With
    ``published`` the training split is dealt, and the test split is then dealt in the proportions in which each class
    was (to the natural clients and by file: as those say). Rows of different clients are disjoint.

    Args:
        dataset: the samples.
        clients: number of clients C, ids 0..C-1.
        config: the ``partition`` part of the configuration.
        data: the ``data`` part of the configuration.
        seed: the run's seed.
        rows: of each client, by id, for ``partition.name=given``.
        held: rows that servers hold, which are dealt to nobody; None: none are.

    Raises:
        DataError: if the request is impossible, with the numbers and what to change.
    """
    held = np.zeros(0, np.int64) if held is None else held
    _check_request(dataset, clients, config, data, held)
    published = data.split == "published"
    if rows is not None or config.name == "given":
        owned = given_parts(dataset, clients, config, rows)
        _check_sizes(owned, config)
        return published_sides(dataset, owned) if published else HeldOut(dataset, owned, data.test_fraction, seed)
    if config.name in ("natural", "file"):
        by_file = config.name == "file"
        owned = file_parts(dataset, clients, config) if by_file else natural_parts(dataset, clients, config, seed)
        owned = owned.where(~np.isin(owned.rows, held)) if len(held) else owned
        _check_sizes(owned, config)
        return published_sides(dataset, owned) if published else HeldOut(dataset, owned, data.test_fraction, seed)
    if config.name in ("dirichlet", "labels"):
        dataset.require_classes(f"partition.name={config.name}", "partition.name=iid, quantity, natural or file")
    pool = np.flatnonzero(~test_flags(dataset)) if published else np.arange(len(dataset.y))
    pool = np.setdiff1d(pool, held) if len(held) else pool
    parts = _deal_pool(dataset, pool, clients, config, seed)
    _check_sizes(parts, config)
    return (
        published_holdout(dataset, parts, seed, held)
        if published
        else HeldOut(dataset, parts, data.test_fraction, seed)
    )


def _check_request(dataset: Dataset, clients: int, config: PartitionConfig, data: DataConfig, held: IntArray) -> None:
    """Refuse what cannot be: no client, fewer samples to draw from than the clients' minima, a file of other rows."""
    if clients < 1:
        raise DataError(f"a partition needs at least 1 client, {clients} were asked for.")
    if config.name == "file" and (data.limit or data.no_label not in ("", KEEP)):
        setting = f"data.limit={data.limit}" if data.limit else f"data.no_label={data.no_label}"
        raise DataError(
            f"partition.path={config.path} lists rows of the whole set, and {setting} leaves others under "
            f"their numbers. Set {'data.limit=0' if data.limit else 'data.no_label='}, and list what is kept there."
        )
    if config.name in ("file", "given") and len(held):
        raise DataError(
            f"partition.name={config.name} lists who holds which rows, and data.server_fraction or "
            "data.server_test_fraction takes some of them. Set these to 0, or choose another partition.name."
        )
    if config.name in OWNED:  # how many clients there are is known, and says more than how many samples
        return
    dealt = ~test_flags(dataset) if data.split == "published" else np.ones(len(dataset.y), np.bool_)
    total = int(dealt.sum()) - int(dealt[held].sum())
    if clients * config.min_samples > total:
        raise DataError(
            f"{clients} clients × partition.min_samples={config.min_samples} = {clients * config.min_samples} samples, "
            f"{dataset.name} has {total} to deal. {_fewer(total, clients, config.min_samples)}"
        )


def _fewer(total: int, clients: int, least: int) -> str:
    """What there are samples enough for; nothing is advised that would be refused in its turn."""
    ways = [f"lower the number of clients to {total // least}"] * (total >= least)
    ways += [f"lower partition.min_samples to {total // clients}"] * (total // clients >= LEAST_SAMPLES)
    text = ", or ".join([*ways, "use a larger data set"])
    return f"{text[0].upper()}{text[1:]}."


def _check_sizes(parts: Parts, config: PartitionConfig) -> None:
    """Refuse clients with too few samples."""
    sizes = parts.sizes
    short = int((sizes < config.min_samples).sum())
    if short:
        smallest = int(sizes.argmin())
        raise DataError(
            f"{short} of {len(parts)} clients have fewer than partition.min_samples={config.min_samples} samples "
            f"(the smallest, client {smallest}, has {sizes[smallest]}). "
            f"Lower {'partition.min_samples or ' * (config.min_samples > LEAST_SAMPLES)}the number of clients."
        )


def _deal_pool(dataset: Dataset, pool: IntArray, clients: int, config: PartitionConfig, seed: int) -> Parts:
    """Return the rows of each client, by the partitions that draw at random."""
    draws = generator(seed, "partition", config.name)
    if config.name == "iid":
        return Parts(draws.permutation(pool), apportion(len(pool), np.ones(clients)))
    if config.name == "quantity":
        weights = size_weights(config.sizes, clients, len(pool), config.skew, draws)
        return Parts(draws.permutation(pool), apportion(len(pool), weights, config.min_samples))
    if config.name == "dirichlet":
        return dirichlet_parts(dataset, pool, clients, config, draws)
    if config.name == "labels":
        return label_parts(dataset, pool, clients, config, draws)
    return flower_parts(dataset, pool, clients, config, seed)


def size_weights(
    kind: SizesName, count: int, total: int, skew: float, draws: np.random.Generator
) -> NDArray[np.float64]:
    """Relative sizes of ``count`` shares of ``total`` samples, ``(count,)``.

    equal: all the same. powerlaw: rank^-skew, ranks shuffled. lognormal: exp(skew·N(0,1)). permfl: a lognormal(0, 2)
    share of the total plus U{300..600}, as in the authors' recipe; where that is more than there is, the caller scales
    all shares down alike.
    """
    if kind == "equal":
        return np.ones(count)
    if kind == "powerlaw":
        return np.asarray(draws.permutation(np.arange(1, count + 1) ** -skew), np.float64)
    if kind == "lognormal":
        return draws.lognormal(0.0, skew, count)
    shares = draws.lognormal(0.0, 2.0, count)
    return np.asarray(total * shares / shares.sum() + draws.integers(300, 601, count), np.float64)


def dirichlet_parts(
    dataset: Dataset, pool: IntArray, clients: int, config: PartitionConfig, draws: np.random.Generator
) -> Parts:
    """Each class is shared out by its own draw p ~ Dir(α·1_C) (Yurochkin et al., 2019; Li et al., 2022).

    Clients that come out below ``min_samples`` receive rows of the class they hold most of from those who have most of
    it; without such clients the draw stands as it is. (The usual alternative, drawing again until no client is short,
    needs hopelessly many draws for many clients and small α.)
    """
    piles, everyone = [], np.arange(clients)
    for label in range(dataset.classes):
        rows = draws.permutation(pool[dataset.y[pool] == label])
        # Gamma draws divided by their sum are Dirichlet; with tiny α all of them may underflow, apportion then shares
        # equally, so one client is drawn to take all, which is the limit of the distribution.
        weights = draws.standard_gamma(config.alpha, clients)
        weights = weights if weights.sum() > 0 else np.eye(clients)[draws.integers(clients)]
        piles.append((rows, everyone, apportion(len(rows), weights)))
    return top_up(Parts.dealt(piles, clients), dataset.y, dataset.classes, config.min_samples)


def label_parts(
    dataset: Dataset, pool: IntArray, clients: int, config: PartitionConfig, draws: np.random.Generator
) -> Parts:
    """Client u holds the labels (u+j) mod K, j < ``labels_per_client``; every label is shared out among its holders.

    Sizes: see :func:`size_weights`; permfl draws them for each client and label, the others for each client. Labels
    that no client holds (fewer clients than labels) are left out.

    Raises:
        DataError: if a client shall hold more labels than there are, or a label has too few samples for its holders.
    """
    classes, per_client = dataset.classes, config.labels_per_client
    if per_client > classes:
        raise DataError(
            f"partition.labels_per_client={per_client}, {dataset.name} has {classes} classes. "
            f"Lower it to at most {classes}."
        )
    floor = -(-config.min_samples // per_client)
    client_weights = np.ones(clients)
    if config.sizes != "permfl":
        client_weights = size_weights(config.sizes, clients, len(pool), config.skew, draws)
    piles = []
    for label in range(classes):
        rows = draws.permutation(pool[dataset.y[pool] == label])
        holders = np.flatnonzero((label - np.arange(clients)) % classes < per_client)
        _check_label(dataset, label, len(rows), len(holders), floor, config)
        weights = client_weights[holders]
        if config.sizes == "permfl":
            weights = size_weights("permfl", len(holders), len(rows), config.skew, draws)
        if len(holders):
            piles.append((rows, holders, apportion(len(rows), weights, floor)))
    return Parts.dealt(piles, clients)


def _check_label(dataset: Dataset, label: int, rows: int, holders: int, floor: int, config: PartitionConfig) -> None:
    """Refuse a label that has too few samples for the clients that hold it."""
    if holders * floor > rows:
        raise DataError(
            f"label {label} of {dataset.name} has {rows} samples for {holders} clients that need {floor} each "
            f"(partition.min_samples={config.min_samples} over {config.labels_per_client} labels). Lower the number of "
            "clients or partition.min_samples."
        )


def with_label_noise(dataset: Dataset, clients: Sequence[ClientData], rate: float, seed: int) -> Dataset:
    """Replace the class of round(rate·n) of the clients' n training rows by another, all others equally likely.

    Test rows keep their class.

    Raises:
        DataError: if there is only one class, or none.
    """
    if not rate:
        return dataset
    dataset.require_classes(f"data.label_noise={rate:g}", "data.label_noise=0")
    if dataset.classes < 2:
        raise DataError(f"data.label_noise={rate:g} needs at least 2 classes, {dataset.name} has {dataset.classes}.")
    draws = generator(seed, "partition", "label noise")
    rows = np.sort(np.concatenate([client.train for client in clients]))
    chosen = draws.choice(rows, round(rate * len(rows)), replace=False)
    y = dataset.y.copy()
    y[chosen] = (y[chosen] + draws.integers(1, dataset.classes, len(chosen))) % dataset.classes
    return dataclasses.replace(dataset, y=y)
