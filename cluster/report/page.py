"""The page of a comparison: one self-contained ``report.html``, made from the templates beside this module.

The page holds no script, no date and nothing remote, so equal runs give an equal page but for the names of their
folders. Whatever users wrote (labels, settings, paths) is escaped by the templates.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from strata.cluster.humanise import NOTHING
from strata.cluster.report.comparison import Comparison, Sheet
from strata.cluster.report.plots import Picture
from strata.cluster.report.results import Contestant
from strata.cluster.report.settings import entering, own_part
from strata.cluster.run.runner import versions
from strata.cluster.sinks.weights_and_biases import code_commit

REPORT = "report.html"
TITLE_LETTERS = 100


def write(comparison: Comparison, pictures: Sequence[Picture], folder: Path) -> Path:
    """Write ``report.html`` into a folder, which is made if it is missing; returns its path."""
    path = folder / REPORT
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(page(comparison, pictures), encoding="utf8")
    return path


def page(comparison: Comparison, pictures: Sequence[Picture]) -> str:
    """The report as HTML, with the pictures inside it."""
    differing, shared = _settings(comparison.contestants)
    return (
        _templates()
        .get_template(REPORT)
        .render(
            title=_title([one.label for one in comparison.contestants]),
            spread=_spread(max(len(one.runs) for one in comparison.contestants)),
            comparison=comparison,
            pictures=pictures,
            differing=differing,
            shared=shared,
            failures=Sheet(["run", "why"], [list(pair) for pair in comparison.failures.items()]),
            runs=_runs(comparison.contestants),
            versions=_versions(),
        )
    )


@cache
def _templates() -> Environment:
    folder = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=folder,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode()
    return environment


def _title(labels: Sequence[str]) -> str:
    """What is compared; where labels hold so many settings that nobody would read them here, the methods alone."""
    whole, methods = ", ".join(labels), ", ".join(dict.fromkeys(label.partition(":")[0] for label in labels))
    return f"Comparison of {whole if len(whole) <= TITLE_LETTERS else methods}"


def _spread(seeds: int) -> str:
    return f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "of one seed"


def _settings(contestants: Sequence[Contestant]) -> tuple[Sheet, Sheet]:
    """Where the methods differ, a column a method; and what they share, the setting included."""
    owns = {one.label: own_part(one.runs[0].config) for one in contestants}
    rows = [[key, *(_value(own, key) for own in owns.values())] for key in _keys(owns.values())]
    differing = [row for row in rows if len(set(row[1:])) > 1 or len(owns) == 1]
    equal = [row[:2] for row in rows if row not in differing]
    setting = [[key, str(value)] for key, value in entering(contestants[0].runs[0].config).items()]
    return Sheet(["key", *owns], differing), Sheet(["key", "value"], [*equal, *setting])


def _keys(owns: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for own in owns for key in own))


def _value(own: Mapping[str, object], key: str) -> str:
    return str(own[key]) if key in own else NOTHING


def _runs(contestants: Sequence[Contestant]) -> Sheet:
    rows = [[one.label, str(run.seed), str(run.run_dir)] for one in contestants for run in one.runs]
    return Sheet(["method", "seed", "folder"], rows)


def _versions() -> Sheet:
    found = {**versions(), "matplotlib": matplotlib.__version__, "commit": code_commit() or "not a checkout"}
    return Sheet(["package", "version"], [list(item) for item in found.items()])
