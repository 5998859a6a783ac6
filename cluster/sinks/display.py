"""What a person sees of a run: a live view on a terminal, plain lines where the output is piped.

Both are sinks (see :mod:`strata.cluster.sinks.jsonl`) that can also print a message; both end with the same summary.
"""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from strata.cluster.humanise import NOTHING, humanise_measure
from strata.cluster.sinks.sink import RunInfo, Sink
from strata.cluster.sinks.views import (
    COLUMNS,
    KINDS,
    History,
    describe,
    figures,
    header,
    ordered_kinds,
    outcome,
    progress_bar,
    rounds_and_trend,
    summary_panel,
    summary_tables,
)
from strata.cluster.terminal import waiting
from strata.engine.evaluation.measures import ACCURACY, KNOWN, Measure
from strata.engine.notify import Step
from strata.engine.rounds.records import RoundRecord, Scores

WIDTHS = {"loss": 6, "time": 11, "straggling": 11, "up": 7}  # so that the lines of a run stay in columns


class Display(Sink, Protocol):
    """A sink that talks to a person."""

    def message(self, text: str) -> None:
        """Print a line about what happens now."""

    def settle(self) -> None:
        """Take back what only says that something begins; so that an error stands alone, and after it all ended."""

    def show(self, table: Table) -> None:
        """Print a table that belongs to the end of a run."""


def display_for(console: Console) -> Display:
    """Choose the live view for a terminal, plain lines for a pipe or a file."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class PlainDisplay:
    """One line per evaluated round, for pipes and log files."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._history: History | None = None

    def message(self, text: str) -> None:
        """Print a line about what happens now, as it is."""
        dots = " …" if isinstance(text, Step) else ""
        self._console.print(f"{text}{dots}", markup=False, highlight=False, soft_wrap=True)

    def settle(self) -> None:
        """Do nothing: what is printed stays."""

    def show(self, table: Table) -> None:
        """Print a table that belongs to the end of a run, as it is."""
        self._console.print(table, highlight=False)

    def start(self, run: RunInfo) -> None:
        """Say what runs, in a line and its facts below."""
        self._history = History(run)
        self.message(f"{run.algorithm}, seed {run.seed}, {run.rounds} rounds")
        for name, fact in describe(run).items():
            self.message(f"  {name:8} {fact}")

    def round(self, record: RoundRecord) -> None:
        """Print one line, if the round was evaluated."""
        if self._history and self._history.add(record):
            total = str(self._history.run.rounds)
            cells = [f"round {record.round:>{len(total)}}/{total}"]
            cells += [f"{k} {_headline(record.scores[k]):>8}" for k in ordered_kinds(record.scores)]
            found = figures(record)
            cells += [f"{heading} {found[name]:>{WIDTHS.get(name, 0)}}" for name, heading in COLUMNS.items()]
            self.message("  ".join(filter(None, [*cells, self._history.pace(record.round)])))

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Print the summary as a plain table."""
        if self._history:
            self.message(f"\n{outcome(self._history.run, summary, exit_code)}")
            self._console.print(*summary_tables(summary), sep="\n", highlight=False)
            self.message(f"run directory  {self._history.run.run_dir}")
        self._history = None


class LiveDisplay:
    """A view that is redrawn on a terminal: what runs, progress, the last evaluated rounds, the trend.

    The redrawn frames are kept out of a recording console, so that its export shows the final view once.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._history: History | None = None
        self._live: Live | None = None
        self._recording = False
        self._bar = Progress()
        self._step = ExitStack()  # holds what stands until the next line

    def message(self, text: str) -> None:
        """Print a line above the live view; one about what begins only stands until the next line."""
        if isinstance(text, Step) and self._live is None:
            self.settle()
            self._step.enter_context(waiting(self._console, text))
            return
        self.settle()
        self._console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def settle(self) -> None:
        """Take back what only says that something begins."""
        self._step.close()

    def show(self, table: Table) -> None:
        """Print a table below the live view."""
        self._console.print(table)

    def start(self, run: RunInfo) -> None:
        """Open the live view."""
        self.settle()
        self._history = History(run)
        self._bar = progress_bar(self._console)
        self._bar.add_task("", total=run.rounds, completed=run.resumed_round)
        self._recording, self._console.record = self._console.record, False
        self._live = Live(self._view(), console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def round(self, record: RoundRecord) -> None:
        """Move the bar of the live view on, and add a row if the round was evaluated."""
        if self._history is None or self._live is None:
            return
        self._bar.update(self._bar.task_ids[0], completed=record.round)
        if self._history.add(record):
            self._live.update(self._view())

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Replace the live view by its last state and the summary."""
        if self._history is None:
            return
        if self._live is not None:
            self._live.stop()
            self._console.record = self._recording
        self._console.print(Group(header(self._history.run), *rounds_and_trend(self._history)))
        self._console.print(summary_panel(self._history.run, summary, exit_code))
        self._console.print(Text(f"run directory  {self._history.run.run_dir}"), soft_wrap=True)
        self._history = self._live = None

    def _view(self) -> RenderableType:
        assert self._history is not None
        return Group(header(self._history.run), self._bar, *rounds_and_trend(self._history))


def _headline(scores: Scores) -> str:
    named = f"{scores.measure.title} " if scores.measure.name != ACCURACY else ""
    return named + humanise_measure(scores.measure, scores.value)


def mean_std(values: Sequence[float], measure: Measure = KNOWN[ACCURACY]) -> str:
    """Write values of a measure, accuracies (0..1) as per cent, as mean ± sample std; a single one has none."""
    if not values:
        return NOTHING
    mean = humanise_measure(measure, statistics.fmean(values))
    if len(values) == 1:
        return mean
    return f"{mean.removesuffix(' %')} ± {humanise_measure(measure, statistics.stdev(values))}"


def seeds_table(results: Mapping[int, Mapping[str, float]], measure: Measure = KNOWN[ACCURACY]) -> Table:
    """Tabulate headlines by seed and kind of model, with mean ± sample standard deviation over the seeds."""
    kinds = ordered_kinds(kind for scores in results.values() for kind in scores)
    table = Table(title=f"{measure.title} over {len(results)} seeds", title_justify="left")
    table.add_column("seed")
    for kind in kinds:
        table.add_column(kind, justify="right", style=KINDS.get(kind, ""))
    for seed, scores in results.items():
        table.add_row(str(seed), *(humanise_measure(measure, scores.get(kind)) for kind in kinds))
    table.add_section()
    means = [mean_std([scores[kind] for scores in results.values() if kind in scores], measure) for kind in kinds]
    table.add_row("mean ± std", *means, style="bold")
    return table


def failures_table(failures: Mapping[str, str]) -> Table:
    """Tabulate runs that failed, and why, by what names them."""
    table = Table(title=f"failed: {len(failures)} of the runs", title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("why", overflow="fold")
    for run, why in failures.items():
        table.add_row(Text(run), Text(why))  # as Text: both may hold brackets, which are markup to a plain string
    return table
