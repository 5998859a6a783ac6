"""Comparisons from the command line and what they leave behind; two methods as a report reads them back."""

import contextlib
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from strata.cluster.cli import main
from strata.cluster.report.results import Contestant, Run

ODD = "a<b>&$^$.yaml"  # markup in HTML, and a broken formula in matplotlib
LABELS = ["permfl", "fedprox:method.mu=0.5", ODD]
FAST = ["method.team_rounds=2", "method.local_steps=2", "method.batch_size=16"]
PLOTS = [
    "accuracy-bytes.png",
    "accuracy-clients.png",
    "accuracy-flops.png",
    "accuracy-rounds.png",
    "accuracy-time.png",
    "straggling.png",
]


def command(*words):
    """Exit code, and what was printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["compare", *map(str, words)])
    return code, out.getvalue()


class Page(HTMLParser):
    """Tags with their attributes, and the cells of the tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text, self._cell = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self._cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf8"))


def copied(run_dir, target, change):
    """A copy of a run with a changed configuration or other rounds."""
    shutil.copytree(run_dir, target)
    config = yaml.safe_load((target / "config.yaml").read_text())
    rounds = [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]
    change(config, rounds)
    (target / "config.yaml").write_text(yaml.safe_dump(config))
    (target / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rounds))
    return target


def read_back(seed, accuracies, virtual_s=(1.0, 2.0), straggling_s=(0.5, 1.5), kind="GM", bytes_total=(500.0, 1500.0)):
    """Two rounds of a run."""
    columns = {
        f"{kind}.accuracy": accuracies,
        f"{kind}.worst_decile": np.array(accuracies) / 2,
        "virtual_s": virtual_s,
        "straggling_s": straggling_s,
        "bytes_total": bytes_total,
        "flops_total": (1e9, 3e9),
    }
    return Run(Path("x"), {"seed": seed}, pd.DataFrame(columns, index=[1, 2]))


PLAIN = Contestant("fedavg", [read_back(0, (0.1, 0.5)), read_back(1, (0.2, 0.7))])
QUICK = Contestant("hapfl", [read_back(0, (0.1, 0.8), virtual_s=(0.25, 0.5), straggling_s=(0.0, 0.0), kind="PM")])
