"""What a comparison leaves behind: tables in the terminal, PNG files, ``report.html``, ``results``, and a W&B run.

The results are the tables as Markdown, the first of them as LaTeX too, and the figures as numbers in a CSV file.

A run is worth more than a picture of it: what fails here is a warning.
"""

import shlex
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd
from rich.console import Console

from strata.cluster.report.comparison import Comparison
from strata.cluster.report.confusion_plot import draw_confusion
from strata.cluster.report.markdown import write_results
from strata.cluster.report.page import write
from strata.cluster.report.plots import Picture, draw
from strata.cluster.run.runner import versions
from strata.cluster.sinks.display import display_for, failures_table
from strata.cluster.sinks.sink import GuardedSink, RunInfo
from strata.cluster.sinks.weights_and_biases import ComparisonSink
from strata.engine.config.load import OWN
from strata.engine.config.tracking import TrackingConfig
from strata.engine.errors import StrataWarning

T = TypeVar("T")

CSV, LATEX = "results.csv", "results.tex"


def deliver(comparison: Comparison, folder: Path, tracking: TrackingConfig, console: Console) -> None:
    """Show the tables, draw the pictures, write the report and log it to W&B; failures after the tables are warnings.

    Args:
        comparison: what is reported.
        folder: where files go; made if it is missing.
        tracking: whether and where W&B gets them.
        console: where to show the tables and the place of the report.
    """
    console.print(comparison.table())
    for table in comparison.more_tables():
        console.print(table)
    if comparison.targets:
        console.print(comparison.targets.table())
    if comparison.failures:
        console.print(failures_table(comparison.failures))
    pictures = _tried("the plots could not be drawn", lambda: _drawn(comparison, folder), comparison) or []
    path = _tried("the report could not be written", lambda: write(comparison, pictures, folder), comparison)
    _tried("results.md could not be written", lambda: write_results(comparison, folder), comparison)
    _tried("results.csv and results.tex could not be written", lambda: write_tables(comparison, folder), comparison)
    if tracking.wandb != "disabled":
        _log(comparison, pictures, folder, tracking, console)
    if path:
        console.print(f"report  {path}", markup=False, highlight=False, soft_wrap=True)


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Write ``results.csv``, a row of numbers a method, and ``results.tex``, the table of results for ``booktabs``."""
    numbers = pd.DataFrame.from_dict(comparison.numbers(), orient="index").rename_axis("method")
    numbers.to_csv(folder / CSV)
    texts = pd.DataFrame(comparison.rows, columns=comparison.headings)
    sides = "l" + "r" * (len(comparison.headings) - 1)
    texts.to_latex(folder / LATEX, index=False, escape=True, column_format=sides)


def _drawn(comparison: Comparison, folder: Path) -> list[Picture]:
    return [*draw(comparison, folder), *draw_confusion(comparison, folder)]


def _tried(failure: str, action: Callable[[], T], comparison: Comparison) -> T | None:
    try:
        return action()
    except Exception as error:
        folders = shlex.join(str(run.run_dir) for one in comparison.contestants for run in one.runs)
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"{failure} ({cause}); the runs are complete. Another attempt: strata compare --report {folders}"
        warnings.warn(text, StrataWarning, stacklevel=2)
        return None


def _log(
    comparison: Comparison, pictures: Sequence[Picture], folder: Path, tracking: TrackingConfig, console: Console
) -> None:
    message = display_for(console).message
    files = {picture.path.stem: picture.path for picture in pictures}
    tables = {"targets": comparison.targets, "further": comparison.further}
    more = {name: (one.headings, one.rows) for name, one in tables.items() if one}
    logged = ComparisonSink(tracking, comparison.headings, comparison.rows, files, message, more)
    sink = GuardedSink(logged, "Weights & Biases", message)
    sink.start(_info(comparison, folder))
    sink.finish(comparison.numbers(), 0)


def _info(comparison: Comparison, folder: Path) -> RunInfo:
    """The comparison as a run: its setting, and each method's own part of the configuration."""
    first = comparison.contestants[0].runs[0]
    methods = {one.label: {part: one.runs[0].config.get(part) for part in OWN} for one in comparison.contestants}
    setting = {key: value for key, value in first.config.items() if key not in OWN}
    return RunInfo(
        run_dir=folder,
        algorithm="compare",
        config={**setting, "methods": methods},
        seed=first.seed,
        versions=versions(),
        rounds=len(first.rounds),
        resumed_round=0,
    )
