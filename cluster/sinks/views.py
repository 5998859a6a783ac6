"""What the displays show: the pieces of the live view, and the summary. Pure functions of what was seen of a run."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from strata.cluster.humanise import (
    NOTHING,
    humanise_bytes,
    humanise_flops,
    humanise_loss,
    humanise_measure,
    humanise_seconds,
    sparkline,
)
from strata.cluster.sinks.fitting import Fitting
from strata.cluster.sinks.jsonl import METRICS, read_metrics, record_from_plain
from strata.cluster.sinks.sink import RunInfo
from strata.engine.errors import ConfigError
from strata.engine.evaluation.measures import ACCURACY, KNOWN, Measure, measure_of
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.find import load_method
from strata.engine.rounds.records import RoundRecord
from strata.engine.rounds.scores import UNSEEN

KINDS = {"PM": "cyan", "TM": "magenta", "GM": "yellow"}
NAMES = {"PM": "personal", "TM": "team", "GM": "global"}
COLUMNS = {
    "loss": "train loss",
    "time": "virtual time",
    "straggling": "straggling",
    "up": "bytes up",
    "done": "completed",
}
"""What is shown of a round beside its headlines: the first is the last to go where a terminal is narrow."""
HEADINGS = {"worst_decile": "worst decile", "macro_f1": "macro F1", "hurt": "hurt"}
ROWS = 10
NARROW = 60  # letters of a terminal below which the progress bar says less
INTERRUPTED = 130


def ordered_kinds(found: Iterable[str]) -> list[str]:
    """Order kinds of models as personal, team, global, those of the unseen likewise, then any others."""
    names, known = set(found), [*KINDS, *(f"{UNSEEN}{kind}" for kind in KINDS)]
    return [*(kind for kind in known if kind in names), *sorted(names - set(known))]


class History:
    """What both displays remember of a run; a resumed one begins with the rounds that its folder holds."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run
        self.recent: deque[RoundRecord] = deque(maxlen=ROWS)  # evaluated rounds only
        self.headlines: dict[str, list[float]] = {}
        self.measure = KNOWN[ACCURACY]
        self._wall_s: list[float] = []
        metrics = run.run_dir / METRICS
        if run.resumed_round and metrics.exists():
            for plain in read_metrics(metrics):
                self.add(record_from_plain(plain))

    def add(self, record: RoundRecord) -> bool:
        """Take in a round; returns whether it was evaluated, which is what people want to see."""
        if wall_s := record.wall_s + record.agents_wall_s:  # those before a resume are not known
            self._wall_s.append(wall_s)
        if record.scores:
            self.recent.append(record)
        for kind, scores in record.scores.items():
            self.headlines.setdefault(kind, []).append(scores.value)
            self.measure = scores.measure
        return bool(record.scores)

    def pace(self, round: int) -> str:
        """Say how long the rounds took on the wall, and about how long those after ``round`` will; empty if unknown."""
        if not self._wall_s:
            return ""
        taken = sum(self._wall_s)
        left = taken / len(self._wall_s) * (self.run.rounds - round)
        return f"wall {humanise_seconds(taken)}, left {humanise_seconds(left)}"

    @property
    def kinds(self) -> list[str]:
        """Kinds of models seen so far: personal, team, global."""
        return ordered_kinds(self.headlines)


def describe(run: RunInfo) -> dict[str, str]:
    """Summarise a run's configuration: data, clients and teams, devices, where it runs."""

    def at(path: str, default: object = "") -> Any:
        value: Any = run.config
        for key in path.split("."):
            value = value.get(key, default) if isinstance(value, Mapping) else default
        return value

    facts = {"data": _joined(at("data.name"), at("partition.name"), at("model.name"))}
    if clients := at("clients.count"):
        facts["clients"] = f"{clients} in {at('teams.count')} teams" if _tiered(run.algorithm) else f"{clients}"
        if unseen := at("evaluation.unseen"):
            facts["clients"] += f", {100 * unseen:.3g} % of them unseen"
    if delays := at("delays.name"):
        facts["devices"] = _mix(at("delays.classes", {})) if delays == "classes" else f"{delays}"
    if runtime := at("runtime"):
        actors = f"Ray actors, clients per actor: {at('clients_per_actor', 'auto')}"
        facts["runtime"] = actors if runtime == "ray" else "in this process"
    return {name: fact for name, fact in facts.items() if fact}


def _joined(*names: object) -> str:
    return " · ".join(str(name) for name in names if name)


def _mix(shares: Mapping[str, float]) -> str:
    total = sum(shares.values()) or 1.0
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{100 * share / total:.0f} % {name}" for name, share in ordered)


def _tiered(algorithm: str) -> bool:
    try:
        return issubclass(load_method(algorithm), TieredAlgorithm)
    except ConfigError:  # a record shown on a machine without that method
        return False


def figures(record: RoundRecord) -> dict[str, str]:
    """Write what :data:`COLUMNS` names of a round."""
    return {
        "loss": NOTHING if record.train_loss is None else humanise_loss(record.train_loss),
        "time": humanise_seconds(record.virtual_s),
        "straggling": humanise_seconds(record.straggling_s),
        "up": humanise_bytes(record.bytes_client_up + record.bytes_team_up),
        "done": f"{record.completed}/{record.invited}",
    }


def header(run: RunInfo) -> RenderableType:
    """A frame that says what runs: method and seed, data, clients, devices."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, fact in describe(run).items():
        grid.add_row(name, Text(fact))
    title = Text.assemble(("strata", "bold"), " ", (run.algorithm, "bold cyan"), f" seed {run.seed}")
    return Panel(grid, title=title, title_align="left", border_style="dim")


def progress_bar(console: Console) -> Progress:
    """Make a bar over the rounds, with the time it has taken and the time left."""
    named = console.width >= NARROW
    return Progress(
        TextColumn(" round {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        *([TextColumn("[dim]elapsed"), TimeElapsedColumn()] if named else []),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
    )


def rounds_and_trend(history: History) -> list[RenderableType]:
    """Tabulate the last evaluated rounds, with a curve per kind of model below."""
    if not history.recent:
        return [Text(" no round was evaluated yet", style="dim")]
    names = list(COLUMNS)
    tables = [_rounds(history, names[:count]) for count in range(len(names), -1, -1)]
    trends = [Fitting([_trend(history, kind, width) for width in (60, 30, 10)]) for kind in history.kinds]
    return [Fitting(tables), Rule(style="dim"), *trends]


def _rounds(history: History, names: Collection[str]) -> Table:
    """The last evaluated rounds, with those of :data:`COLUMNS` that are named."""
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 1))
    table.add_column("round", justify="right", no_wrap=True)
    kinds = [kind for kind in history.kinds if not kind.startswith(UNSEEN)]  # for these only the curves have room
    for kind in kinds:
        style = KINDS.get(kind, "")
        table.add_column(kind, justify="right", no_wrap=True, style=style, header_style=f"bold {style}")
    for name in names:
        table.add_column(COLUMNS[name], justify="right", no_wrap=True)
    for record in history.recent:
        found = figures(record)
        cells = [found[name] for name in names]
        table.add_row(str(record.round), *_headline_cells(history, record, kinds), *cells)
    return table


def _headline_cells(history: History, record: RoundRecord, kinds: Iterable[str]) -> list[Text]:
    """Headlines of a round by some kinds of models, the best so far in bold."""
    cells = []
    for kind in kinds:
        value = record.scores[kind].value if kind in record.scores else None
        best = value == history.measure.best(history.headlines[kind])
        cells.append(Text(humanise_measure(history.measure, value), style="bold" if best else ""))
    return cells


def _trend(history: History, kind: str, width: int) -> Text:
    values = history.headlines[kind]
    curve = sparkline(values, width)
    first, last = (humanise_measure(history.measure, value) for value in (values[0], values[-1]))
    named = f"  of {history.measure.title}" if history.measure.name != ACCURACY else ""
    ends = f"  {first} → {last}{named}"
    return Text.assemble(f" {kind} ", (curve, KINDS.get(kind, "")), (ends, "dim"))


def outcome(run: RunInfo, summary: Mapping[str, object], exit_code: int) -> str:
    """Say how a run ended."""
    endings = {0: "done", INTERRUPTED: "interrupted"}
    return (
        f"{run.algorithm} seed {run.seed}: {endings.get(exit_code, 'failed')} after {summary.get('rounds', 0)} rounds"
    )


def summary_panel(run: RunInfo, summary: Mapping[str, object], exit_code: int) -> Panel:
    """Frame the summary in the colour of the outcome; its tables stand below each other where they must."""
    colour = {0: "green", INTERRUPTED: "yellow"}.get(exit_code, "red")
    beside = Table.grid(padding=(0, 6))
    beside.add_row(*summary_tables(summary))
    body = Fitting([beside, Group(*summary_tables(summary)), Group(*summary_tables(summary, narrow=True))])
    return Panel(body, title=outcome(run, summary, exit_code), title_align="left", border_style=colour)


def summary_tables(summary: Mapping[str, object], narrow: bool = False) -> list[Table]:
    """Tabulate best, last and worst headlines, what else was measured of them, and the totals.

    Where it is narrow there are only the last and the worst.
    """
    measure = measure_of(str(summary.get("headline", ACCURACY)))
    columns = {name: (measure, _floats(summary, name)) for name in ("best", "last", "worst_decile")}
    if narrow:
        del columns["best"]
    else:
        columns |= _further(summary, measure)
    scores = Table(box=None, padding=(0, 2), header_style="dim")
    scores.add_column("" if narrow else measure.title, no_wrap=True)
    for name in columns:
        scores.add_column(HEADINGS.get(name, name), justify="right", no_wrap=True)
    last = columns["last"][1]
    for kind in ordered_kinds(last):
        named = kind if narrow else f"{kind} {NAMES.get(kind, '')}".strip()
        label = Text(named, style=KINDS.get(kind, ""))
        scores.add_row(label, *(humanise_measure(of, column.get(kind)) for of, column in columns.values()))
    totals = Table(box=None, padding=(0, 2), show_header=False)
    for name, text in _totals(summary).items():
        totals.add_row(Text(name, style="dim"), text)
    return [scores, totals] if last else [totals]


def _further(summary: Mapping[str, object], headline: Measure) -> dict[str, tuple[Measure, dict[str, float]]]:
    """What else was measured, by its heading: the measure, and its last values by kind of model."""
    shares = {name: (KNOWN[ACCURACY], _floats(summary, name)) for name in ("macro_f1", "hurt") if name in summary}
    found = summary.get("measures")
    measures = found if isinstance(found, Mapping) else {}
    others = {name: measure_of(name) for name in measures if name != headline.name}
    return shares | {one.title: (one, _floats(measures, name)) for name, one in others.items()}


def _floats(summary: Mapping[str, object], name: str) -> dict[str, float]:
    found = summary.get(name)
    return {str(key): float(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _totals(summary: Mapping[str, object]) -> dict[str, str]:
    forms = {
        "virtual time": ("virtual_s", humanise_seconds),
        "mean straggling": ("straggling_s", humanise_seconds),
        "bytes moved": ("bytes", humanise_bytes),
        "training FLOPs": ("flops", humanise_flops),
        "wall time": ("wall_s", humanise_seconds),
        "peak memory": ("peak_bytes", lambda count: f"{humanise_bytes(count)} of this process"),
    }
    numbers = {name: (summary.get(key), form) for name, (key, form) in forms.items()}
    totals = {name: form(value) for name, (value, form) in numbers.items() if isinstance(value, int | float)}
    return {**totals, **_private(summary), **_async(summary), **_agents(summary), **_failures(summary)}


def _private(summary: Mapping[str, object]) -> dict[str, str]:
    """What differential privacy the clients have."""
    epsilon, delta = summary.get("epsilon"), summary.get("delta")
    if not isinstance(epsilon, float) or not isinstance(delta, float):
        return {}
    return {"privacy": f"ε = {epsilon:.3g} at δ = {delta:.3g}"}


def _failures(summary: Mapping[str, object]) -> dict[str, str]:
    """What the run went on after, and what it took."""
    failures, seconds = summary.get("failures"), summary.get("recovery_wall_s")
    if not isinstance(failures, int) or not isinstance(seconds, float):
        return {}
    return {"failures survived": f"{failures}, {humanise_seconds(seconds)} to start again"}


def _async(summary: Mapping[str, object]) -> dict[str, str]:
    """What became of uploads of servers that do not wait for all."""
    mean, dropped, idle_s = (summary.get(key) for key in ("staleness", "stale", "idle_s"))
    if not (isinstance(mean, float) and isinstance(dropped, float) and isinstance(idle_s, float)):
        return {}
    return {
        "mean staleness": f"{mean:.2f} ({dropped:.0f} uploads dropped)",
        "idle time": f"{humanise_seconds(idle_s)} of clients, in all",
    }


def _agents(summary: Mapping[str, object]) -> dict[str, str]:
    """What agents changed and what they cost, for runs that they decided."""
    keys = ("straggling_first_s", "straggling_last_s", "agents_wall_s_per_round", "clients_wall_s_per_round")
    first, last, agents, clients = (summary.get(key) for key in keys)
    shown = {}
    if isinstance(first, float) and isinstance(last, float):
        shown["first → last tenth"] = f"{humanise_seconds(first)} → {humanise_seconds(last)} of straggling"
    if isinstance(agents, float) and isinstance(clients, float):
        share = agents / (agents + clients)
        parts = f"agents {humanise_seconds(agents)} ({share:.1%}), clients {humanise_seconds(clients)}"
        shown["wall time a round"] = parts
    return shown
