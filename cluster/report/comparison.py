"""Several methods in one setting, side by side."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from strata.cluster.humanise import NOTHING, humanise_bytes, humanise_flops, humanise_seconds
from strata.cluster.report.results import APART, EPSILON_COLUMN, Contestant, change, taken_by
from strata.cluster.report.targets import Targets
from strata.cluster.sinks.display import mean_std
from strata.cluster.sinks.views import KINDS
from strata.engine.evaluation.measures import ACCURACY, KNOWN, Measure, measure_of

MEASURED = "measured on the machines of the runs; memory is that of the process that drives one"
"""What the table of wall seconds is called."""

FURTHER = {"macro_f1": "macro F1", "macro_f1_mean": "macro F1 of clients", "hurt": "hurt"}
"""What an evaluation may measure beside headlines, and how a table calls it; of the most personal kind of model."""


def _form(name: str) -> Measure:
    """How values of a column are written; those of :data:`FURTHER` are shares."""
    return KNOWN[ACCURACY] if name in FURTHER else measure_of(name)


@dataclass(frozen=True)
class Sheet:
    """A table of texts: headings, and rows of as many cells."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Comparison:
    """Methods in one setting, and what a report says about them.

    Attributes:
        contestants: the methods, in the order in which they were named.
        baseline: label that the relative columns refer to; None for none.
        setting: the shared setting, in a line.
        command: what makes this report again.
        targets: what each method needed to a target accuracy; None where nobody asked.
        failures: why runs failed that were to be compared, by what names them; they are in no table or plot.
        measured: what the runs took of the machines that they were made on; None where nobody asked.
    """

    contestants: Sequence[Contestant]
    baseline: str | None
    setting: str
    command: str
    targets: Targets | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    measured: Sheet | None = None

    @property
    def headline(self) -> Measure:
        """By what models are compared: accuracy, unless the task has another measure."""
        return self.contestants[0].headline

    @cached_property
    def headings(self) -> list[str]:
        """Headings of the table of results."""
        relative = [f"{what} vs {self.baseline}" for what in ("time", "straggling") if self.baseline is not None]
        named = [kind if self.headline.name == ACCURACY else f"{kind} {self.headline.title}" for kind in KINDS]
        return ["method", *named, "worst decile", "virtual time", "straggling", "bytes", "FLOPs", *relative]

    @cached_property
    def further(self) -> Sheet | None:
        """What only some evaluations measure: of clients that never train, and at the server, too; None without any."""
        apart = [kind for kind in APART if self._any(kind, self.headline.name)]
        measures = dict.fromkeys(name for one in self.contestants for name in one.runs[0].measures)
        further = {**FURTHER, **{name: measure_of(name).title for name in measures}}
        further.pop(self.headline.name, None)
        names = {name: heading for name, heading in further.items() if self._any("", name)}
        private = any(one.last(EPSILON_COLUMN) for one in self.contestants)
        if not apart and not names and not private:
            return None
        rows = [
            [
                one.label,
                *(mean_std(one.last(f"{one.personal}.{name}"), _form(name)) for name in names),
                *(mean_std(one.headlines(kind), self.headline) for kind in apart),
                *([one.epsilon] if private else []),
            ]
            for one in self.contestants
        ]
        return Sheet(["method", *names.values(), *apart, *(["ε"] if private else [])], rows)

    def _any(self, kind: str, name: str) -> bool:
        """Whether any method has a figure of a kind of model, by default of its most personal one."""
        return any(one.last(f"{kind or one.personal}.{name}") for one in self.contestants)

    @cached_property
    def rows(self) -> list[list[str]]:
        """Cells of the table of results, a row a method: mean ± sample standard deviation, or mean, over the seeds."""
        return [self._row(one) for one in self.contestants]

    def numbers(self) -> dict[str, dict[str, float]]:
        """The figures of all tables as numbers, by label."""
        return {
            one.label: {**one.numbers(), **(self.targets.numbers(one.label) if self.targets else {})}
            for one in self.contestants
        }

    def _row(self, one: Contestant) -> list[str]:
        return [
            one.label,
            *(mean_std(one.headlines(kind), self.headline) for kind in KINDS),
            mean_std(one.last(f"{one.personal}.worst_decile"), self.headline),
            humanise_seconds(one.mean("virtual_s")),
            humanise_seconds(one.mean("straggling_s")),
            humanise_bytes(one.mean("bytes_total")),
            humanise_flops(one.mean("flops_total")),
            *self._relative(one),
        ]

    def _relative(self, one: Contestant) -> Iterator[str]:
        for base in self.contestants:
            if base.label == self.baseline:
                for column in ("virtual_s", "straggling_s"):
                    yield NOTHING if one is base else change(one.mean(column), base.mean(column))

    def table(self) -> Table:
        """The table of results for a terminal: in 120 letters, whatever the labels."""
        full = self.baseline is not None or max(len(one.label) for one in self.contestants) > 10
        frame = box.SIMPLE_HEAD if full else box.HEAVY_HEAD
        table = Table(title="after the last round, on the same clients, data and delays", box=frame)
        for heading in self.headings:
            words = heading.replace(" ", "\n") if full else heading
            table.add_column(Text(words), justify="left" if heading == "method" else "right", overflow="fold")
        for label, *cells in self.rows:
            # As Text: a label may hold brackets, which are markup to a plain string.
            table.add_row(Text(label), *(Text(cell.replace(" ±", "\n±") if full else cell) for cell in cells))
        return table

    def more_tables(self) -> Iterator[RenderableType]:
        """The tables of :attr:`further` and :attr:`measured` for a terminal, as far as there are some."""
        if self.further is not None:
            yield _table(self.further, "of single clients, classes and privacy, after the last round")
        if self.measured is not None:
            yield _table(self.measured, MEASURED)


def _table(sheet: Sheet, title: str) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in sheet.headings:
        words = heading.replace(" ", "\n", 1)
        table.add_column(Text(words), justify="left" if heading == "method" else "right", overflow="fold")
    for label, *cells in sheet.rows:
        table.add_row(Text(label), *(Text(cell.replace(" ±", "\n±")) for cell in cells))
    return Group(Text(f" {title}", "italic"), table)  # the table's own is folded to its width


def measured(contestants: Sequence[Contestant]) -> Sheet:
    """What runs took of the machines that they were made on, a row a method: means over the seeds."""
    columns = {
        "wall time": ("wall_s", humanise_seconds),
        "a round": ("round_wall_s", humanise_seconds),
        "of agents": ("agents_wall_s", humanise_seconds),
        "peak memory": ("peak_bytes", humanise_bytes),
    }
    taken = {one.label: [taken_by(run.run_dir) for run in one.runs] for one in contestants}
    rows = [
        [label, *(form(statistics.fmean(run[name] for run in runs)) for name, form in columns.values())]
        for label, runs in taken.items()
    ]
    return Sheet(["method", *columns], rows)
