"""The page shows what users wrote as they wrote it, and never as HTML or as a template."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from strata.cluster.report.comparison import Comparison
from strata.cluster.report.frame import rounds_frame
from strata.cluster.report.page import page
from strata.cluster.report.plots import Picture
from strata.cluster.report.results import Contestant, Run
from strata.engine.rounds.scores import to_plain
from tests.helpers.records import record

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "{% raw %}", "a & b's </pre>"]


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def page_of(word, folder, pictures=()):
    config = {"seed": 0, "algorithm": word, "method": {"note": word}, "data": {"name": word}}
    run = Run(Path(word), config, rounds_frame([to_plain(record(1))]))
    return Reader(page(Comparison([Contestant(word, [run])], None, word, word), pictures))


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_are_text_wherever_they_stand(word, tmp_path):
    (tmp_path / "plot.png").write_bytes(b"\x89PNG")
    found, harmless = (page_of(text, tmp_path, [Picture(text, text, tmp_path / "plot.png")]) for text in (word, "x"))
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in harmless.tags]
    (image,) = [attributes for tag, attributes in found.tags if tag == "img"]
    assert image == {"alt": word, "src": "data:image/png;base64,iVBORw=="}
    # Heading and title, setting, command, table, settings of method and data, run and its folder, and the caption.
    assert sum(text.count(word) for text in found.text) >= 9


def test_without_targets_and_pictures_their_headings_are_missing(tmp_path):
    found = page_of("x", tmp_path)
    assert not [text for text in found.text if text.startswith(("Plots", "Cost"))]
    assert "Results" in found.text


def test_labels_full_of_settings_leave_the_title_to_their_methods():
    def title(*labels):
        contestants = [
            Contestant(label, [Run(Path("x"), {"seed": 0, "algorithm": label}, rounds_frame([to_plain(record(1))]))])
            for label in labels
        ]
        return next(text for text in Reader(page(Comparison(contestants, None, "", ""), ())).text if text.strip())

    assert title("fedavg", "permfl:rounds=3") == "Comparison of fedavg, permfl:rounds=3"
    many = ",".join(f"method.key_{number}=1" for number in range(9))
    assert title(f"fedavg:{many}", "fedavg:method.lr=1", "permfl") == "Comparison of fedavg, permfl"
