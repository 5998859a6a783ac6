"""What a comparison leaves behind: PNG files, one self-contained ``report.html``, ``results.md``, and a W&B run.

The page holds no script, no date and nothing remote, so equal runs give an equal page but for the names of their
folders. A run is worth more than a picture of it: what fails here is a warning.
"""

import base64
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from rich.console import Console

from strata.cluster.report.comparison import Comparison
from strata.cluster.report.markdown import write_results
from strata.cluster.report.plots import Picture, draw
from strata.cluster.report.results import Compared, entering, own_part
from strata.cluster.run.runner import versions
from strata.cluster.sinks.base import GuardedSink, RunInfo
from strata.cluster.sinks.display import display_for
from strata.cluster.sinks.weights_and_biases import ComparisonSink, code_commit
from strata.engine.config.load import OWN
from strata.engine.config.tracking import TrackingConfig
from strata.engine.errors import StrataWarning

T = TypeVar("T")

REPORT = "report.html"

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --line: #d9dee6; --page: #ffffff; --card: #f5f7fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #39424e; --page: #14181d; --card: #1d232b; }
}
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1200px; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin-bottom: 0.25rem; overflow-wrap: anywhere; }
h2 { border-top: 1px solid var(--line); font-size: 1.2rem; margin-top: 2.25rem; padding-top: 1.25rem; }
p.soft, figcaption { color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; overflow-wrap: anywhere;
  padding: 0.7rem 0.9rem; white-space: pre-wrap; }
code, pre { font: 0.88rem/1.5 ui-monospace, monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.5rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: 0.4rem 0.6rem; text-align: right; }
td { white-space: nowrap; }
th:first-child, td:first-child, .words td, .words th { text-align: left; }
td:first-child { font-weight: 600; }
.words td { font-weight: 400; overflow-wrap: anywhere; white-space: normal; }
figure { margin: 1.5rem 0 2rem; }
figure img { background: #ffffff; border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box;
  display: block; height: auto; max-width: 100%; padding: 0.75rem; }
figcaption { margin-top: 0.5rem; }
summary { cursor: pointer; }
"""


def deliver(comparison: Comparison, folder: Path, tracking: TrackingConfig, console: Console) -> None:
    """Show the tables, draw the pictures, write the report and log it to W&B; failures after the tables are warnings.

    Args:
        comparison: what is reported.
        folder: where files go; made if it is missing.
        tracking: whether and where W&B gets them.
        console: where to show the table and the places of the files.
    """
    console.print(comparison.table())
    if comparison.targets:
        console.print(comparison.targets.table())
    pictures = _tried("the plots could not be drawn", lambda: _drawn(comparison, folder), comparison) or []
    path = _tried("the report could not be written", lambda: write(comparison, pictures, folder), comparison)
    _tried("results.md could not be written", lambda: write_results(comparison, folder), comparison)
    if tracking.wandb != "disabled":
        _log(comparison, pictures, folder, tracking, console)
    if path:
        console.print(f"report  {path}", markup=False, highlight=False, soft_wrap=True)


def _drawn(comparison: Comparison, folder: Path) -> list[Picture]:
    folder.mkdir(parents=True, exist_ok=True)
    return draw(comparison, folder)


def _tried(failure: str, action: Callable[[], T], comparison: Comparison) -> T | None:
    try:
        return action()
    except Exception as error:
        folders = " ".join(str(run.run_dir) for one in comparison.compared for run in one.runs)
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"{failure} ({cause}); the runs are complete. Another attempt: strata compare --report {folders}"
        warnings.warn(text, StrataWarning, stacklevel=2)
        return None


def _log(
    comparison: Comparison, pictures: Sequence[Picture], folder: Path, tracking: TrackingConfig, console: Console
) -> None:
    message = display_for(console).message
    files = {picture.path.stem: picture.path for picture in pictures}
    more = {"targets": (comparison.targets.headings, comparison.targets.rows)} if comparison.targets else {}
    logged = ComparisonSink(tracking, comparison.headings, comparison.rows, files, message, more)
    sink = GuardedSink(logged, "Weights & Biases", message)
    first = comparison.compared[0].runs[0]
    methods = {one.label: {part: one.runs[0].config.get(part) for part in OWN} for one in comparison.compared}
    setting = {key: value for key, value in first.config.items() if key not in OWN}
    sink.start(
        RunInfo(
            run_dir=folder,
            algorithm="compare",
            config={**setting, "methods": methods},
            seed=first.seed,
            versions=versions(),
            rounds=first.summary.rounds,
            resumed_round=0,
        )
    )
    sink.finish(comparison.numbers(), 0)


def write(comparison: Comparison, pictures: Sequence[Picture], folder: Path) -> Path:
    """Write ``report.html`` and return its path."""
    path = folder / REPORT
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(page(comparison, pictures), encoding="utf8")
    return path


def page(comparison: Comparison, pictures: Sequence[Picture]) -> str:
    """The report as HTML, with the pictures inside it."""
    title = f"Comparison of {', '.join(one.label for one in comparison.compared)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Even if something slipped through the escaping, a browser would neither run nor fetch it.
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">{escape(comparison.setting)}</p>',
            f"<pre>{escape(comparison.command)}</pre>",
            *_results(comparison),
            *_figures(pictures),
            *_settings(comparison),
            *_runs(comparison.compared),
            *_versions(),
            "</body>",
            "</html>",
            "",
        ]
    )


def _results(comparison: Comparison) -> list[str]:
    most = max(len(one.runs) for one in comparison.compared)
    spread = f"mean ± sample standard deviation over {most} seeds" if most > 1 else "of one seed"
    caption = (
        f"After the last round, {spread}. PM, TM, GM: accuracy of the personal, team and global models over all test "
        "data. Worst decile: mean accuracy of the tenth of the clients that is served worst, by the first of the three "
        "that the method has. Straggling: seconds that the fastest participants wait for the slowest, mean over the "
        "rounds. Bytes: both tiers, both directions."
    )
    return ["<h2>Results</h2>", *_table(comparison.headings, comparison.rows, caption), *_targets(comparison)]


def _targets(comparison: Comparison) -> list[str]:
    if (found := comparison.targets) is None:
        return []
    return [f"<h2>Cost {escape(found.title)}</h2>", *_table(found.headings, found.rows, found.caption)]


def _figures(pictures: Iterable[Picture]) -> list[str]:
    lines = ["<h2>Plots</h2>", "<p>Lines are means over the seeds, bands ± one sample standard deviation.</p>"]
    for picture in pictures:
        data = base64.b64encode(picture.path.read_bytes()).decode()
        lines += [
            "<figure>",
            f'<img alt="{escape(picture.title)}" src="data:image/png;base64,{data}">',
            f"<figcaption><strong>{escape(picture.title)}.</strong> {escape(picture.reading)}</figcaption>",
            "</figure>",
        ]
    return lines if len(lines) > 2 else []


def _settings(comparison: Comparison) -> list[str]:
    """Where the methods differ, a column a method; and what they share, folded."""
    owns = {one.label: own_part(one.runs[0].config) for one in comparison.compared}
    keys = dict.fromkeys(key for own in owns.values() for key in own)
    rows = [[key, *(_value(own, key) for own in owns.values())] for key in keys]
    differing = [row for row in rows if len(set(row[1:])) > 1 or len(owns) == 1]
    shared = [[key, str(value)] for key, value in entering(comparison.compared[0].runs[0].config).items()]
    equal = [[row[0], row[1]] for row in rows if row not in differing]
    return [
        "<h2>Settings</h2>",
        *(_table(["key", *owns], differing, "The methods' own settings, where they differ.") if differing else []),
        "<details><summary>All that is shared</summary>",
        *_table(["key", "value"], [*equal, *shared], "", "words"),
        "</details>",
    ]


def _value(own: Mapping[str, Any], key: str) -> str:
    return str(own[key]) if key in own else "–"


def _runs(compared: Sequence[Compared]) -> list[str]:
    rows = [[one.label, str(run.seed), str(run.run_dir)] for one in compared for run in one.runs]
    return ["<h2>Runs</h2>", *_table(["method", "seed", "folder"], rows, "", "words")]


def _versions() -> list[str]:
    found = {**versions(), "matplotlib": matplotlib.__version__, "commit": code_commit() or "not a checkout"}
    return ["<h2>Versions</h2>", *_table(["package", "version"], [[*item] for item in found.items()], "", "words")]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str, kind: str = "figures") -> list[str]:
    return [
        f'<div class="wide"><table class="{kind}">',
        f"<thead><tr>{''.join(f'<th>{escape(heading)}</th>' for heading in headings)}</tr></thead>",
        "<tbody>",
        *(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows),
        "</tbody></table></div>",
        *([f'<p class="soft">{escape(caption)}</p>'] if caption else []),
    ]
