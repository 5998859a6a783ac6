import builtins

import numpy as np
import pytest

from strata.engine.data.apportion import label_counts
from strata.engine.data.config import DataConfig, PartitionConfig
from strata.engine.data.partition.dealing import partition
from strata.engine.errors import DataError

pytest.importorskip("flwr_datasets")


def deal(dataset, clients, seed=0, **options):
    config = PartitionConfig("flwr", min_samples=2, **options)
    return partition(dataset, clients, config, DataConfig(), seed)


def held(dataset, clients):
    return label_counts(dataset.y, [np.r_[client.train, client.test] for client in clients], dataset.classes)


# PathologicalPartitioner draws classes at random by default and warns when one is left out, which is as asked.
@pytest.mark.filterwarnings("ignore:Classes:UserWarning")
@pytest.mark.parametrize(
    ("name", "clients", "options"),
    [
        ("IidPartitioner", 7, {}),
        ("LinearPartitioner", 7, {}),
        ("SquarePartitioner", 7, {}),
        ("ExponentialPartitioner", 4, {}),
        ("DirichletPartitioner", 7, {"alpha": 1.0}),
        ("PathologicalPartitioner", 10, {"num_classes_per_partition": 2}),
        ("ShardPartitioner", 10, {"num_shards_per_partition": 2}),
        ("SizePartitioner", 3, {"partition_sizes": [100, 200, 300]}),
        ("InnerDirichletPartitioner", 3, {"partition_sizes": [100, 200, 300], "alpha": 1.0}),
        ("NaturalIdPartitioner", 6, {}),
        ("GroupedNaturalIdPartitioner", 3, {"group_size": 2}),
        ("ContinuousPartitioner", 5, {"partition_by": "row", "strictness": 0.5}),
        (
            "DistributionPartitioner",
            10,
            {
                "distribution_array": [[1.0, 1.0]] * 10,
                "num_unique_labels_per_partition": 2,
                "preassigned_num_samples_per_label": 5,
            },
        ),
    ],
)
def test_any_partitioner_by_name(make_dataset, owned_rows, name, clients, options):
    dataset = make_dataset(natural=6)
    parts = deal(dataset, clients, partitioner=name, options=options)
    assert len(parts) == clients
    owned_rows(parts, len(dataset.y))
    if "partition_sizes" in options:
        assert [len(part.train) + len(part.test) for part in parts] == options["partition_sizes"]


def test_blocks_are_cut_from_shuffled_rows(make_dataset):
    # The rows of the set lie class by class; without a shuffle each of 10 blocks would hold one class.
    dataset = make_dataset()
    assert (held(dataset, deal(dataset, 10, partitioner="IidPartitioner")) > 0).sum(axis=1).min() >= 8


def test_our_dirichlet_agrees_with_theirs(make_dataset):
    """Both deal each class by p ~ Dir(α·1_C): the spread and the tail of the shares must agree."""
    dataset = make_dataset(per_class=300)

    def shares(config):
        parts = [held(dataset, partition(dataset, 8, config, DataConfig(), seed)) / 300 for seed in range(25)]
        return np.stack(parts)

    ours = shares(PartitionConfig("dirichlet", alpha=0.7, min_samples=2))
    options = {"alpha": 0.7, "min_partition_size": 0}
    theirs = shares(PartitionConfig("flwr", partitioner="DirichletPartitioner", options=options, min_samples=2))
    # 2,000 shares each of standard deviation √(1/8·7/8/(0.7·8 + 1)) = 0.13.
    assert ours.mean() == pytest.approx(1 / 8)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.08)
    for quantile in (0.25, 0.5, 0.75, 0.95):
        assert np.quantile(ours, quantile) == pytest.approx(np.quantile(theirs, quantile), abs=0.02)


def test_our_labels_agree_with_their_deterministic_classes(make_dataset):
    # Theirs gives client u the classes (u + j) mod K in the mode "deterministic", as PerMFL does.
    dataset = make_dataset()
    options = {"num_classes_per_partition": 2, "class_assignment_mode": "deterministic"}
    theirs = held(dataset, deal(dataset, 10, partitioner="PathologicalPartitioner", options=options))
    config = PartitionConfig("labels", min_samples=2)
    ours = held(dataset, partition(dataset, 10, config, DataConfig(), 0))
    assert np.array_equal(np.sort((theirs > 0).sum(axis=1)), np.sort((ours > 0).sum(axis=1)))
    assert sorted(map(tuple, theirs > 0)) == sorted(map(tuple, ours > 0))


def test_the_seed_reaches_the_partitioner(make_dataset):
    dataset = make_dataset()
    options = {"partitioner": "DirichletPartitioner", "options": {"alpha": 1.0}}
    first, same, other = (held(dataset, deal(dataset, 5, seed=seed, **options)) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("clients", "options", "message"),
    [
        (4, {"partitioner": "Nonsense"}, "no partitioner 'Nonsense'. Set partition.partitioner to one of: Continuous"),
        (4, {"partitioner": "VerticalEvenPartitioner"}, "no partitioner 'VerticalEvenPartitioner'"),
        (4, {"partitioner": "DirichletPartitioner"}, "refuses partition.options={}: .*alpha"),
        (4, {"partitioner": "SizePartitioner", "options": {"partition_sizes": [300, 300]}}, "makes 2 partitions, 4 cl"),
        (4, {"partitioner": "SizePartitioner", "options": {"partition_sizes": [300] * 4}}, "cannot deal 600 samples"),
        (4, {"partitioner": "NaturalIdPartitioner"}, "cannot deal 600 samples of made: .*client"),
    ],
)
def test_errors(make_dataset, clients, options, message):
    with pytest.raises(DataError, match=message):
        deal(make_dataset(), clients, **options)


def test_without_the_extra_the_error_says_what_to_install(make_dataset, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "flwr_datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match=r'needs flwr-datasets, which is not installed: pip install "strata-fl\[hub\]"'):
        deal(make_dataset(), 4, partitioner="IidPartitioner")
