"""The ``data``, ``partition`` and ``teams.formation`` parts of the configuration."""

from dataclasses import dataclass
from typing import Any, Literal

from strata.engine.options import option

LEAST_SAMPLES = 2  # of a client: one to train with, one to test with

PartitionName = Literal["iid", "dirichlet", "labels", "quantity", "natural", "file", "flwr", "given"]
SizesName = Literal["equal", "powerlaw", "lognormal", "permfl"]
FormationName = Literal["sequential", "random", "labels", "similarity", "hierarchical", "file", "worst", "average"]


@dataclass(frozen=True)
class DataConfig:
    """The group ``data`` of the configuration: which data set, where it lies, and what is done to it."""

    name: str = option(
        "fashion_mnist_12k",
        "fashion_mnist_12k (ships with Strata), mnist, fashion_mnist, emnist, cifar10, cifar100, synthetic, "
        "hub:OWNER/NAME or hub:OWNER/NAME/CONFIG (Hugging Face), memory:NAME (given in Python), or a folder or file, "
        "absolute or under data.root",
    )
    root: str = option("", "where local sets are looked for; empty: $STRATA_DATA, else ~/.cache/strata")
    format: str = option(
        "auto",
        "of a local set: auto, idx, cifar, images (a folder per class), csv, tsv, parquet, jsonl, npz, npy (a folder "
        "of X.npy, y.npy, ..., which stay on the disk)",
    )
    task: Literal["auto", "classification", "regression", "multi_label", "next_token"] = option(
        "auto",
        "what is learnt: classification, regression (one or several numbers), multi_label (several of K labels), "
        "next_token (of token ids, or with text); auto: as the target says, fractions are a regression, several "
        "columns of 0 and 1 are multi_label",
    )
    target: str = option(
        "label", "csv, tsv, parquet, jsonl, hub: the column of the target, or several, comma separated"
    )
    target_scale: Literal["none", "standard"] = option(
        "none", "regression: targets as they are, or less the mean and by the deviation of the training rows"
    )
    header: Literal["auto", "yes", "no"] = option(
        "auto", "csv, tsv: whether the first line names the columns; without names they are called 0, 1, 2, ..."
    )
    no_label: str = option(
        "", "labels that mean none, comma separated: their rows are left out; keep: every label is a class as it stands"
    )
    inputs: str = option("", "csv, tsv, parquet, jsonl, hub: the input columns, comma separated; empty: all others")
    text: str = option(
        "", "csv, tsv, parquet, jsonl, hub: the column of free text that is the only input, as token ids; empty: none"
    )
    vocabulary: int = option(
        5000, "text: number of token ids: padding (0), unknown words (1), and the most frequent words", ge=3
    )
    length: int = option(128, "text: words kept of each text; a longer one is cut, a shorter one padded", ge=1)
    client_column: str = option("", "the column (npz: array) that names the client of a sample, for partition=natural")
    layout: Literal["auto", "first", "last", "none"] = option(
        "auto",
        "arrays: where channels lie: first (N, C, ...), last (N, ..., C), none (N, ...); auto: as the shape says",
    )
    resize: int = option(
        0, "pictures: pixels on either side that all are resized to; 0: they must be of one size", ge=0
    )
    range: str = option(
        "auto",
        "arrays and pictures: which values reach the model as -1 and 1: LOW..HIGH; none: as they are; auto: 0..255 "
        "for uint8, the usual range (0..1, or that of 8 to 16 bits) for other pictures (N, C, H, W), none for the rest",
    )
    limit: int = option(0, "keep this many samples, class-balanced where possible; 0: all", ge=0)
    test_fraction: float = option(0.25, "share of each client's samples held out as its test data", gt=0, lt=1)
    validation_fraction: float = option(
        0.0, "share of each client's training samples held out, for methods that validate locally", ge=0, lt=1
    )
    split: Literal["client", "published"] = option(
        "client",
        "client: samples are pooled, then each client's are split by test_fraction; published: the published test "
        "split is partitioned like the training split and test_fraction is ignored",
    )
    server_fraction: float = option(
        0.0,
        "share of the training rows, class-balanced, that servers hold and no client: for methods that use them",
        ge=0,
        lt=1,
    )
    server_test_fraction: float = option(
        0.0,
        "share of the rows (of the published test split) that the global model is tested on at the server, "
        "class-balanced and no client's",
        ge=0,
        lt=1,
    )
    label_noise: float = option(0.0, "share of training labels replaced by another class at random", ge=0, lt=1)
    alpha: float = option(0.5, "synthetic: how much the clients' models differ", ge=0)
    beta: float = option(0.5, "synthetic: how much the clients' inputs differ", ge=0)


@dataclass(frozen=True)
class PartitionConfig:
    """The group ``partition`` of the configuration: how samples are dealt to clients."""

    name: PartitionName = option(
        "labels",
        "iid, dirichlet, labels (a few classes each), quantity (sizes differ), natural, file, flwr; given (in Python)",
    )
    alpha: float = option(0.3, "dirichlet: concentration; small is heterogeneous", gt=0)
    labels_per_client: int = option(2, "labels: classes each client holds", ge=1)
    sizes: SizesName = option(
        "equal",
        "labels, quantity: equal, powerlaw, lognormal, or permfl (lognormal(0,2) power law + U{300..600} a label)",
    )
    skew: float = option(1.0, "powerlaw: exponent; lognormal: sigma of the sizes", ge=0, le=50)
    min_samples: int = option(10, "no client gets fewer samples than this", ge=LEAST_SAMPLES)
    path: str = option("", "file: a JSON file {client id: [sample indices]}")
    partitioner: str = option("", "flwr: name of a partitioner of flwr-datasets, e.g. DirichletPartitioner")
    options: dict[str, Any] = option({}, "flwr: its keyword arguments")


@dataclass(frozen=True)
class FormationConfig:
    """The group ``teams.formation`` of the configuration: how clients form teams."""

    name: FormationName = option(
        "sequential",
        "sequential blocks, random, labels (by label distribution), similarity (by model updates, k-means), "
        "hierarchical (by model updates, agglomerative), file, worst and average (PerMFL's ablation)",
    )
    path: str = option("", "file: a JSON file {team id: [client ids]}")
