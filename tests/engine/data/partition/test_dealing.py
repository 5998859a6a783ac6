import json

import numpy as np
import pytest

from strata.engine.data.apportion import label_counts
from strata.engine.data.config import DataConfig, PartitionConfig
from strata.engine.data.partition.dealing import partition, with_label_noise
from strata.engine.errors import DataError

CLIENT = DataConfig()
PUBLISHED = DataConfig(split="published")


def counts(dataset, clients):
    return label_counts(dataset.y, [np.r_[client.train, client.test] for client in clients], dataset.classes)


ALL = [
    PartitionConfig("iid"),
    PartitionConfig("dirichlet", alpha=0.3),
    PartitionConfig("labels"),
    PartitionConfig("labels", sizes="powerlaw"),
    PartitionConfig("labels", sizes="lognormal"),
    PartitionConfig("labels", sizes="permfl"),
    PartitionConfig("quantity", sizes="powerlaw"),
    PartitionConfig("quantity", sizes="lognormal"),
    PartitionConfig("quantity", sizes="permfl"),
    PartitionConfig("natural"),
    PartitionConfig("flwr", partitioner="IidPartitioner"),
]


@pytest.mark.parametrize("data", [CLIENT, PUBLISHED], ids=["client", "published"])
@pytest.mark.parametrize("config", ALL, ids=lambda config: f"{config.name}-{config.sizes}")
def test_invariants_of_every_partition(make_dataset, owned_rows, config, data):
    dataset = make_dataset(per_class=200, test_share=0.2, natural=20)
    clients = partition(dataset, 20, config, data, seed=1)
    owned = owned_rows(clients, len(dataset.y))
    assert len(clients) == 20
    assert len(owned) == len(dataset.y)  # nothing is lost
    assert all(np.all(np.diff(side) > 0) for client in clients for side in (client.train, client.test))
    if data is PUBLISHED:
        assert all(dataset.natural_test[client.test].all() for client in clients)
        assert not any(dataset.natural_test[client.train].any() for client in clients)
        assert min(len(client.train) for client in clients) >= config.min_samples
    else:
        assert min(len(client.train) + len(client.test) for client in clients) >= config.min_samples
    again = partition(dataset, 20, config, data, seed=1)
    assert all(
        np.array_equal(a.train, b.train) and np.array_equal(a.test, b.test) for a, b in zip(clients, again, strict=True)
    )
    if config.name != "natural" or data is CLIENT:
        other = partition(dataset, 20, config, data, seed=2)
        assert any(not np.array_equal(a.train, b.train) for a, b in zip(clients, other, strict=True))


def test_iid_sizes_differ_by_at_most_one(make_dataset):
    clients = partition(make_dataset(per_class=61), 7, PartitionConfig("iid"), CLIENT, 0)
    sizes = sorted(len(client.train) + len(client.test) for client in clients)
    assert sizes == [87] * 6 + [88]  # 610 = 7·87 + 1


@pytest.mark.parametrize("per_client", [1, 2, 3, 10])
def test_labels_are_exactly_the_published_ones(make_dataset, per_client):
    dataset = make_dataset(per_class=200)
    clients = partition(dataset, 40, PartitionConfig("labels", labels_per_client=per_client), CLIENT, 0)
    held = counts(dataset, clients)
    for client in range(40):
        assert set(np.flatnonzero(held[client])) == {(client + j) % 10 for j in range(per_client)}
    # 40 clients × k labels / 10 classes = 4k holders of each label, which share its 200 samples equally.
    assert np.ptp(held[held > 0]) <= 1
    assert held.sum() == 2000


def test_labels_without_a_holder_are_left_out(make_dataset):
    dataset = make_dataset()
    clients = partition(dataset, 3, PartitionConfig("labels"), CLIENT, 0)
    assert counts(dataset, clients).sum(axis=0).tolist() == [60, 60, 60, 60, 0, 0, 0, 0, 0, 0]


def test_permfl_sizes_follow_the_recipe(make_dataset):
    # Available: 2,000 a label, wanted: a lognormal share of 2,000 plus U{300..600} for each of 4 holders, scaled down.
    # Sum of wanted is 2,000 + 4·450, so a holder gets at least about 300·2,000/(2,000+4·600) = 136 (plus rounding).
    dataset = make_dataset(per_class=2000)
    clients = partition(dataset, 20, PartitionConfig("labels", sizes="permfl", min_samples=2), CLIENT, 0)
    held = counts(dataset, clients)
    assert held.sum(axis=0).tolist() == [2000] * 10
    positive = held[held > 0]
    assert len(positive) == 40
    assert positive.min() >= 135
    assert positive.max() > 3 * positive.min()  # skewed


def test_powerlaw_sizes_are_the_power_law(make_dataset):
    dataset = make_dataset(per_class=600)
    config = PartitionConfig("quantity", sizes="powerlaw", skew=1.0, min_samples=2)
    clients = partition(dataset, 20, config, CLIENT, 0)
    sizes = np.sort([len(client.train) + len(client.test) for client in clients])[::-1]
    weights = 1 / np.arange(1, 21)
    assert np.allclose(sizes, 2 + (6000 - 40) * weights / weights.sum(), atol=1)


def test_skew_zero_is_equal_sizes(make_dataset):
    for sizes in ("powerlaw", "lognormal"):
        clients = partition(make_dataset(), 10, PartitionConfig("quantity", sizes=sizes, skew=0.0), CLIENT, 0)
        assert {len(client.train) + len(client.test) for client in clients} == {60}


def test_dirichlet_proportions_have_the_moments_of_the_distribution(make_dataset):
    # Shares of one class over C clients are Dir(α): mean 1/C, variance (1/C)(1 - 1/C)/(αC + 1).
    dataset = make_dataset(per_class=1000)
    config, variances = PartitionConfig("dirichlet", alpha=0.5, min_samples=2), []
    for seed in range(40):
        held = counts(dataset, partition(dataset, 10, config, CLIENT, seed))
        variances.append(((held / 1000 - 0.1) ** 2).mean())
    expected = 0.1 * 0.9 / (0.5 * 10 + 1)
    assert np.mean(variances) == pytest.approx(expected, rel=0.1)


def test_dirichlet_limits(make_dataset):
    dataset = make_dataset(per_class=500)
    even = counts(dataset, partition(dataset, 10, PartitionConfig("dirichlet", alpha=1e6), CLIENT, 0))
    assert np.abs(even - 50).max() <= 2
    sharp = counts(dataset, partition(dataset, 3, PartitionConfig("dirichlet", alpha=1e-5), CLIENT, 0))
    assert sum(held in (0, 500) for held in sharp.flat) >= 24  # nearly every class belongs to one client


def test_dirichlet_tops_up_instead_of_failing(make_dataset, owned_rows):
    dataset = make_dataset(per_class=100)
    clients = partition(dataset, 90, PartitionConfig("dirichlet", alpha=0.05), CLIENT, 0)
    assert len(owned_rows(clients, 1000)) == 1000
    assert min(len(client.train) + len(client.test) for client in clients) == 10


def test_natural_clients_keep_their_rows(make_dataset):
    dataset = make_dataset(natural=30)
    clients = partition(dataset, 30, PartitionConfig("natural"), CLIENT, 0)
    for index, client in enumerate(clients):
        assert set(dataset.natural[np.r_[client.train, client.test]]) == {f"p{index:03d}"}
    some = partition(dataset, 4, PartitionConfig("natural"), CLIENT, 0)
    names = [set(dataset.natural[client.train]) for client in some]
    assert len(set.union(*names)) == 4
    assert sum(map(len, names)) == 4


def test_file(make_dataset, tmp_path):
    path = tmp_path / "clients.json"
    path.write_text(json.dumps({"1": list(range(100, 120)), "0": list(range(12))}))
    clients = partition(make_dataset(), 2, PartitionConfig("file", path=str(path)), CLIENT, 0)
    assert sorted(np.r_[clients[0].train, clients[0].test]) == list(range(12))
    assert sorted(np.r_[clients[1].train, clients[1].test]) == list(range(100, 120))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0": list(range(20))}, r"lists 1 clients, expected exactly the ids 0\.\.1"),
        ({"0": list(range(20)), "1": [19, *range(30, 50)]}, "lists row 19 2 times"),
        ({"0": list(range(20)), "1": list(range(590, 610))}, r"lists rows 0\.\.609; made has 0\.\.599"),
        ({"0": list(range(20)), "1": [30, 31]}, "1 of 2 clients have fewer than partition.min_samples=10 samples"),
        ({"0": ["a"], "1": []}, "has another form than expected"),
        ([[1], [2]], "has another form than expected"),
    ],
)
def test_file_errors(make_dataset, tmp_path, content, message):
    path = tmp_path / "clients.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        partition(make_dataset(), 2, PartitionConfig("file", path=str(path)), CLIENT, 0)


@pytest.mark.parametrize("setting", [{"limit": 300}, {"no_label": "9"}])
def test_a_file_of_rows_does_not_go_with_settings_that_leave_rows_out(make_dataset, tmp_path, setting):
    path = tmp_path / "clients.json"
    path.write_text(json.dumps({"0": list(range(12))}))
    with pytest.raises(DataError, match=r"lists rows of the whole set, and data\.(limit=300|no_label=9) leaves others"):
        partition(make_dataset(), 1, PartitionConfig("file", path=str(path)), DataConfig(**setting), 0)


def test_file_that_is_not_there(make_dataset):
    with pytest.raises(DataError, match=r"partition.path is empty"):
        partition(make_dataset(), 2, PartitionConfig("file"), CLIENT, 0)
    with pytest.raises(DataError, match=r"partition.path=/no/such.json cannot be read"):
        partition(make_dataset(), 2, PartitionConfig("file", path="/no/such.json"), CLIENT, 0)


@pytest.mark.parametrize(
    ("clients", "config", "data", "message"),
    [
        (
            500,
            PartitionConfig(),
            CLIENT,
            r"500 clients × partition.min_samples=10 = 5000 samples, made has 600.* to 60",
        ),
        (
            400,
            PartitionConfig(),
            CLIENT,
            r"to deal\. Lower the number of clients to 60, or use a larger data set\.$",
        ),
        (
            5,
            PartitionConfig(min_samples=601),
            CLIENT,
            r"to deal\. Lower partition\.min_samples to 120, or use a larger data set\.$",
        ),
        (0, PartitionConfig(), CLIENT, "needs at least 1 client, 0 were asked for"),
        (4, PartitionConfig(labels_per_client=11), CLIENT, "labels_per_client=11, made has 10 classes"),
        (
            11,
            PartitionConfig(labels_per_client=1, min_samples=40),
            CLIENT,
            "label 0 of made has 60 samples for 2 clients",
        ),
        (
            4,
            PartitionConfig("natural"),
            CLIENT,
            "does not say which client a sample comes from. Set data.client_column",
        ),
        (4, PartitionConfig(), PUBLISHED, "made has no published test split. Set data.split=client"),
    ],
)
def test_impossible_requests(make_dataset, clients, config, data, message):
    with pytest.raises(DataError, match=message):
        partition(make_dataset(), clients, config, data, 0)


@pytest.mark.parametrize("clients", [31, 10**12])
def test_the_number_of_natural_clients_comes_before_that_of_samples(make_dataset, clients):
    says = f"{clients} clients were asked for; made has 30 natural clients, .*: lower the number of clients to 30"
    with pytest.raises(DataError, match=says):
        partition(make_dataset(per_class=30, natural=30), clients, PartitionConfig("natural"), CLIENT, 0)
    with pytest.raises(DataError, match=r"does not say which client a sample comes from\. Set data\.client"):
        partition(make_dataset(per_class=2), clients, PartitionConfig("natural"), CLIENT, 0)


@pytest.mark.parametrize("clients", [31, 10**12])
def test_so_does_the_number_of_clients_that_a_file_lists(make_dataset, clients, tmp_path):
    (tmp_path / "rows.json").write_text('{"0": [1, 2, 3]}')
    config = PartitionConfig("file", path=str(tmp_path / "rows.json"))
    with pytest.raises(DataError, match=rf"lists 1 clients, expected exactly the ids 0\.\.{clients - 1}"):
        partition(make_dataset(per_class=2), clients, config, CLIENT, 0)
    with pytest.raises(DataError, match=rf"lists 1 clients, expected exactly the ids 0\.\.{clients - 1}"):
        partition(make_dataset(per_class=2), clients, PartitionConfig("given"), CLIENT, 0, rows={0: [1, 2]})


def test_too_few_natural_clients(make_dataset):
    with pytest.raises(DataError, match=r"31 clients were asked for; made has 30 natural clients, 30 of them"):
        partition(make_dataset(natural=30), 31, PartitionConfig("natural"), CLIENT, 0)
    with pytest.raises(
        DataError, match=r"has 30 natural clients, 0 of them with partition.min_samples=21 samples or more: low"
    ):
        partition(make_dataset(natural=30), 9, PartitionConfig("natural", min_samples=21), CLIENT, 0)


def test_client_split_is_stratified(make_dataset):
    dataset = make_dataset(per_class=400)
    for client in partition(dataset, 10, PartitionConfig(), CLIENT, 0):
        # 2 labels × 200 samples, a quarter of each held out
        assert np.bincount(dataset.y[client.test])[np.unique(dataset.y[client.test])].tolist() == [50, 50]
        assert len(client.train) == 300


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_both_sides_keep_a_sample(make_dataset, fraction):
    clients = partition(
        make_dataset(), 300, PartitionConfig("iid", min_samples=2), DataConfig(test_fraction=fraction), 0
    )
    assert {(len(client.train), len(client.test)) for client in clients} == {(1, 1)}


def test_published_split_has_the_training_proportions(make_dataset):
    dataset = make_dataset(per_class=500, test_share=0.2)
    clients = partition(dataset, 8, PartitionConfig("dirichlet", alpha=0.5), PUBLISHED, 0)
    for client in clients:
        train = np.bincount(dataset.y[client.train], minlength=10)
        test = np.bincount(dataset.y[client.test], minlength=10)
        assert np.abs(test - train / 4).max() <= 1  # 400 training and 100 test samples a class


def test_published_split_gives_everyone_a_test_sample(make_dataset, owned_rows):
    # 10 test rows a class for 18 holders: most shares round to nothing, so the few are dealt one by one.
    dataset = make_dataset(per_class=500, test_share=0.02)
    owned_rows(partition(dataset, 90, PartitionConfig("iid"), PUBLISHED, 0), 5000)
    with pytest.raises(DataError, match=r"gets none of the 100 published test samples of made .120 clients"):
        partition(dataset, 120, PartitionConfig("iid"), PUBLISHED, 0)


def test_label_noise_changes_the_asked_share_of_training_rows_only(make_dataset):
    dataset = make_dataset(per_class=1000)
    clients = partition(dataset, 10, PartitionConfig("iid"), CLIENT, 0)
    noisy = with_label_noise(dataset, clients, 0.3, seed=0)
    train = np.concatenate([client.train for client in clients])
    test = np.concatenate([client.test for client in clients])
    changed = noisy.y[train] != dataset.y[train]
    assert changed.sum() == round(0.3 * len(train))
    assert np.array_equal(noisy.y[test], dataset.y[test])
    # Symmetric: each of the 9 other classes takes a ninth, 250 of 2,250; standard deviation about 15.
    shifts = np.bincount((noisy.y[train] - dataset.y[train])[changed] % 10, minlength=10)
    assert shifts[0] == 0
    assert np.abs(shifts[1:] - 250).max() < 75
    assert np.array_equal(noisy.y, with_label_noise(dataset, clients, 0.3, seed=0).y)
    assert with_label_noise(dataset, clients, 0.0, seed=0) is dataset


def test_label_noise_needs_two_classes(make_dataset):
    dataset = make_dataset(classes=1)
    clients = partition(dataset, 2, PartitionConfig("iid"), CLIENT, 0)
    with pytest.raises(DataError, match=r"label_noise=0.1 needs at least 2 classes, made has 1"):
        with_label_noise(dataset, clients, 0.1, 0)
