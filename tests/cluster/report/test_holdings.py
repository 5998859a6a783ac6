import io
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from strata.cluster.report.holdings import fitting, label_entropy_bits, label_skew, lines, summary, table
from strata.cluster.report.holdings_plot import plot, team_order
from strata.engine.data.config import DataConfig, FormationConfig, PartitionConfig
from strata.engine.data.dataset import ClientData, FederatedData
from strata.engine.data.federated import build
from strata.engine.data.memory import from_arrays
from strata.engine.data.partition.dealing import partition
from strata.engine.data.remarks import Remarks
from strata.engine.data.teams.formation import form_teams


@pytest.fixture
def federate(make_dataset):
    def make(clients, teams, name="labels", per_class=120):
        dataset = make_dataset(per_class=per_class)
        config = PartitionConfig(name, min_samples=4)
        parts = partition(dataset, clients, config, DataConfig(), 0)
        formed = form_teams(dataset, parts, teams, FormationConfig("random"), 0) if teams else {}
        return FederatedData(dataset, parts, formed)

    return make


def rendered(federated, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(federated))
    return console.file.getvalue()


def test_lines_name_classes_and_who_is_never_tested_on_what(make_dataset):
    # Rows 0 to 3 are of class 0, 4 to 7 of class 1, 8 to 11 of class 2.
    clean = make_dataset(per_class=4, classes=3)
    dataset = replace(clean, class_names=("cat", "dog", "owl"), remarks=Remarks(("read as that",), ("warned of",)))
    rows = [([0, 4, 8], [1]), ([2, 5], [3, 6]), ([9], [10, 7])]
    clients = [ClientData(np.array(train), np.array(test)) for train, test in rows]
    assert lines(FederatedData(dataset, clients)) == [
        "3 classes: 0 cat, 1 dog, 2 owl",
        "1 of 3 clients are never tested on classes they train on: client 0 on 1, 2",
        "1 of 3 clients are tested on classes they never train on: client 2 on 1",
        "read as that",
    ]
    assert lines(FederatedData(dataset, clients[1:2]))[1:] == ["read as that"]


def test_lines_cut_long_lists(make_dataset):
    dataset = replace(make_dataset(per_class=4, classes=30), class_names=tuple(map(str, range(30))))
    clients = [ClientData(np.array([0, 4 * label + 1]), np.array([4 * label + 2])) for label in range(1, 15)]
    named, untested = lines(FederatedData(dataset, clients))
    assert named.endswith("18 18, 19 19, and 10 more")
    assert untested.startswith("14 of 14 clients are never tested on classes they train on: client 0 on 0; client 1")
    assert untested.endswith("client 9 on 0; and 4 more")


def test_entropy_and_skew_in_closed_form():
    counts = np.array([[8, 0, 0, 0], [2, 2, 2, 2], [4, 4, 0, 0]])
    assert label_entropy_bits(counts).tolist() == [0.0, 2.0, 1.0]
    # Pooled: 14, 6, 2, 2 of 24. First row: |1 - 14/24| + 6/24 + 2/24 + 2/24 = 20/24, half of it 10/24.
    assert label_skew(counts)[0] == pytest.approx(10 / 24)


def test_summary_is_plain_and_exact(federate):
    result = summary(federate(20, 4))
    assert json.loads(json.dumps(result)) == result
    # 20 clients × 2 labels over 10 labels: 4 holders of 120 each, so 60 a client, of which 45 + 15.
    assert result["train_samples"] == 900
    assert result["test_samples"] == 300
    assert (result["train_samples_min"], result["test_samples_max"]) == (45, 15)
    assert (result["samples"], result["samples_unused"]) == (1200, 0)
    assert (result["classes_held_min"], result["classes_held_max"]) == (2, 2)
    assert result["entropy_bits_mean"] == pytest.approx(1.0)
    # Two of ten classes at a half each: 2·(0.5 - 0.1) + 8·0.1 = 1.6, half of it 0.8.
    assert result["label_skew_clients"] == pytest.approx(0.8)
    assert result["team_clients_median"] == 5
    assert not any(name.startswith("team_") for name in summary(federate(20, 0)))


def test_table_lists_few_clients(federate):
    federated = federate(20, 4)
    text = rendered(federated)
    assert table(federated).row_count == 20
    assert "made: 20 clients, 4 teams" in text
    assert "19" in text
    assert "0:30 9:30" in text  # client 9 and 19 hold the labels 9 and 0
    assert "team" not in rendered(federate(20, 0)).splitlines()[2]


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (100, ["client", "team", "train", "test", "classes", "entropy", "largest"]),
        (60, ["client", "team", "train", "test", "classes"]),
        (40, ["client", "train", "test"]),
    ],
)
def test_a_narrow_terminal_has_fewer_columns_and_no_number_is_cut(federate, width, headers):
    console = Console(file=io.StringIO(), width=width)
    console.print(fitting(federate(1, 1)))
    shown = console.file.getvalue()
    title, _, heading, *_ = shown.splitlines()
    assert title.strip() == "made: 1 client, 1 team"
    assert heading.replace("┃", " ").split() == headers
    assert all(number in shown for number in (" 180 ", " 60 "))  # 120 samples of two labels, of which a quarter tests
    assert "…" not in shown


def test_table_of_many_clients_is_a_summary(federate):
    federated = federate(60, 25)
    # 5 quantiles, 20 teams and a line for the other 5, 10 clients and a line for the rest
    assert table(federated).row_count == 5 + 21 + 11
    assert "+5" in rendered(federated)
    assert max(map(len, rendered(federated, width=80).splitlines())) <= 80


@pytest.mark.parametrize(("clients", "teams"), [(1, 0), (10, 2), (80, 5)])
def test_plot_draws_who_holds_what(federate, tmp_path, monkeypatch, clients, teams):
    figures, save = [], Figure.savefig

    def savefig(figure, *rest, **options):
        figures.append(figure)
        save(figure, *rest, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    federated = federate(clients, teams, "dirichlet")
    path = plot(federated, tmp_path / "who.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] == 1440
    blue = (pixels[..., 2].astype(int) - pixels[..., 0] > 60).mean()
    assert 0.005 < blue < 0.6

    order = [client for members in federated.teams.values() for client in members] or range(clients)
    rows = [federated.clients[client] for client in order]
    holdings, sizes, _, histogram = figures[0].axes[:4]
    held = np.zeros((clients, 10))  # samples that the picture shows by column and class
    counts = np.array([np.bincount(np.concatenate([r.train, r.test]) // 120, minlength=10) for r in rows])
    if clients > 60:
        held += holdings.images[0].get_array().filled(0).T
    else:  # a bubble's area is a number of samples
        column, label = holdings.collections[0].get_offsets().astype(int).T
        areas = holdings.collections[0].get_sizes()
        held[column, label] = areas * counts.max() / areas.max()
    np.testing.assert_allclose(held, counts)
    bars = [[bar.get_height() for bar in stacked] for stacked in sizes.containers]
    assert bars == [[len(r.train) for r in rows], [len(r.test) for r in rows]]
    assert sum(bar.get_height() for bar in histogram.containers[0]) == clients


def test_columns_stand_team_by_team(federate):
    federated = federate(10, 3)
    order, borders = team_order(federated)
    assert sorted(order) == list(range(10))
    for team, first, after in borders:
        assert order[first:after].tolist() == list(federated.teams[team])


@pytest.mark.parametrize(
    "y", [np.arange(24.0)[:, None] / 8 + [0.5, 1], np.stack([np.arange(24) % 2, np.arange(24) < 3], 1)]
)
def test_targets_without_classes_are_told_by_what_they_are(y, tmp_path):
    data = from_arrays(np.arange(24.0)[:, None], y, clients=np.arange(24) % 2)
    made = build(
        DataConfig(name="memory:arrays", server_fraction=0.25),
        PartitionConfig(name="natural", min_samples=2),
        FormationConfig(),
        2,
        0,
        0,
        own=data,
    )
    console = Console(width=120, file=io.StringIO())
    console.print(table(made))
    shown = console.file.getvalue()
    assert "targets" in shown
    assert "entropy" not in shown
    rows = [np.concatenate([one.train, one.test]) for one in made.clients]
    first = data.y[rows[0]]
    if data.task == "regression":
        assert f"{first[:, 0].mean():.3g} ± {first[:, 0].std():.3g}" in shown
    else:
        assert f"0:{first[:, 0].sum()} 1:{first[:, 1].sum()}" in shown
    assert "servers hold 6 samples to train on, and 0 to test on, which no client has" in lines(made)
    assert plot(made, tmp_path / "who.png").stat().st_size > 0
