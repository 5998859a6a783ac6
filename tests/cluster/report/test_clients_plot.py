"""How accuracies spread over single clients, read back from the tables of runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from strata.cluster.report.clients_plot import headlines, spread
from strata.cluster.report.comparison import Comparison
from strata.cluster.report.confusion_plot import draw_confusion, matrix
from strata.cluster.report.results import Contestant
from strata.cluster.sinks.by_client import ClientTables
from tests.helpers.comparisons import read_back
from tests.helpers.records import record, scores


def ran(folder, seed, rounds):
    """A run in whose folder are the accuracies of clients by round."""
    tables = ClientTables(folder, 0)
    for number, clients in enumerate(rounds, 1):
        made = {"GM": replace(scores(0.5), clients=clients), "unseen GM": replace(scores(0.5), clients={9: 0.125})}
        tables.add(record(number, scores=made if clients else {}))
    return replace(read_back(seed, (0.5, 0.5)), run_dir=folder)


@pytest.fixture
def one(tmp_path):
    first, second = [{0: 0.25, 1: 1.0}, {0: 0.75, 1: 0.5}, {}], [{0: 0.0, 1: 0.625}]
    return Contestant("one", [ran(tmp_path / "a", 0, first), ran(tmp_path / "b", 1, second)])


def test_clients_of_all_seeds_enter_as_the_last_evaluation_found_them(one):
    assert headlines(one, "GM").tolist() == [0.0, 0.5, 0.625, 0.75]
    assert headlines(one, "PM").tolist() == []
    (panel,) = spread([one])
    assert panel.title == "global models (GM)"


def test_a_curve_rises_to_everybody(one):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    (panel,) = spread([one])
    panel.curve(axes, one, "#000000", (0, ()))
    ((x, y),) = [line.get_data() for line in axes.get_lines()]
    assert list(x) == [0.0, 0.0, 50.0, 62.5, 75.0]
    assert list(y) == [0.0, 25.0, 50.0, 75.0, 100.0]


def test_runs_without_tables_have_no_panel():
    assert spread([Contestant("old", [read_back(0, (0.5, 0.5))])]) == []


def test_matrices_are_those_of_all_seeds_and_drawn_where_there_are_some(one, tmp_path):
    comparison = Comparison([one], None, "a setting", "strata compare")
    assert matrix(one) is None
    assert list(draw_confusion(comparison, tmp_path)) == []
    for run in one.runs:
        text = json.dumps({"round": 1, "GM": [[9, 1], [0, 10]], "PM": [[5, 5], [5, 5]]})
        (run.run_dir / "confusion.json").write_text(text)
    found = matrix(one)
    assert found is not None
    assert found.tolist() == [[18, 2], [0, 20]]  # of GM, the most personal kind that it was scored by
    (picture,) = draw_confusion(comparison, tmp_path)
    with Image.open(picture.path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    dark = (pixels.sum(axis=-1) < 400) & (pixels[..., 2] > pixels[..., 0] + 40)  # the blue of the diagonal
    rows, columns = np.nonzero(dark)
    assert len(rows) > 1000
    assert np.corrcoef(rows, columns)[0, 1] > 0.5
