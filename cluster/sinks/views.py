"""What the displays show: the pieces of the live view, and the summary. Pure functions of what was seen of a run."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from strata.cluster.humanise import (
    NOTHING,
    humanise_accuracy,
    humanise_bytes,
    humanise_flops,
    humanise_seconds,
    sparkline,
)
from strata.cluster.sinks.jsonl import METRICS, read_metrics, record_from_plain
from strata.cluster.sinks.sink import RunInfo
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.find import load_method
from strata.engine.rounds.records import RoundRecord
from strata.engine.rounds.scores import UNSEEN

KINDS = {"PM": "cyan", "TM": "magenta", "GM": "yellow"}
NAMES = {"PM": "personal", "TM": "team", "GM": "global"}
HEADINGS = {"worst_decile": "worst decile", "macro_f1": "macro F1", "hurt": "hurt"}
ROWS = 10
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
        self.accuracies: dict[str, list[float]] = {}
        metrics = run.run_dir / METRICS
        if run.resumed_round and metrics.exists():
            for plain in read_metrics(metrics):
                self.add(record_from_plain(plain))

    def add(self, record: RoundRecord) -> bool:
        """Take in a round; returns whether it was evaluated, which is what people want to see."""
        if record.scores:
            self.recent.append(record)
        for kind, scores in record.scores.items():
            self.accuracies.setdefault(kind, []).append(scores.accuracy)
        return bool(record.scores)

    @property
    def kinds(self) -> list[str]:
        """Kinds of models seen so far: personal, team, global."""
        return ordered_kinds(self.accuracies)


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
    """Write a round's loss, time, straggling, bytes and calls, by column."""
    return {
        "loss": NOTHING if record.train_loss is None else f"{record.train_loss:.4f}",
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
    return Progress(
        TextColumn(" round {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("[dim]elapsed"),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
    )


def rounds_and_trend(history: History) -> list[RenderableType]:
    """Tabulate the last evaluated rounds, with a curve per kind of model below."""
    if not history.recent:
        return [Text(" no round was evaluated yet", style="dim")]
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 1))
    table.add_column("round", justify="right")
    kinds = [kind for kind in history.kinds if not kind.startswith(UNSEEN)]  # for these only the curves have room
    for kind in kinds:
        table.add_column(kind, justify="right", style=KINDS.get(kind, ""), header_style=f"bold {KINDS.get(kind, '')}")
    for heading in ("train loss", "virtual time", "straggling", "bytes up", "completed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in history.recent:
        table.add_row(str(record.round), *_accuracy_cells(history, record, kinds), *figures(record).values())
    trends = [_trend(history, kind) for kind in history.kinds]
    return [table, Rule(style="dim"), *trends]


def _accuracy_cells(history: History, record: RoundRecord, kinds: Iterable[str]) -> list[Text]:
    """Accuracies of a round by some kinds of models, the best so far in bold."""
    cells = []
    for kind in kinds:
        accuracy = record.scores[kind].accuracy if kind in record.scores else None
        best = accuracy == max(history.accuracies[kind])
        cells.append(Text(humanise_accuracy(accuracy), style="bold" if best else ""))
    return cells


def _trend(history: History, kind: str) -> Text:
    values = history.accuracies[kind]
    curve = sparkline(values, width=60)
    ends = f"  {humanise_accuracy(values[0])} → {humanise_accuracy(values[-1])}"
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
    body = Columns(summary_tables(summary), padding=(0, 3))
    return Panel(body, title=outcome(run, summary, exit_code), title_align="left", border_style=colour)


def summary_tables(summary: Mapping[str, object]) -> list[Table]:
    """Tabulate best, last and worst accuracies, what else was measured of them, and the totals."""
    scores = Table(box=None, padding=(0, 2), header_style="dim")
    scores.add_column("accuracy")
    names = ["best", "last", "worst_decile", *(name for name in ("macro_f1", "hurt") if name in summary)]
    for name in names:
        scores.add_column(HEADINGS.get(name, name), justify="right")
    columns = [_floats(summary, name) for name in names]
    for kind in ordered_kinds(columns[1]):
        label = Text(f"{kind} {NAMES.get(kind, '')}".strip(), style=KINDS.get(kind, ""))
        scores.add_row(label, *(humanise_accuracy(column.get(kind)) for column in columns))
    totals = Table(box=None, padding=(0, 2), show_header=False)
    for name, text in _totals(summary).items():
        totals.add_row(Text(name, style="dim"), text)
    return [scores, totals] if columns[1] else [totals]


def _floats(summary: Mapping[str, object], name: str) -> dict[str, float]:
    found = summary.get(name)
    return {str(key): float(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _totals(summary: Mapping[str, object]) -> dict[str, str]:
    forms = {
        "virtual time": ("virtual_s", humanise_seconds),
        "mean straggling": ("straggling_s", humanise_seconds),
        "bytes moved": ("bytes", humanise_bytes),
        "training FLOPs": ("flops", humanise_flops),
    }
    numbers = {name: (summary.get(key), form) for name, (key, form) in forms.items()}
    totals = {name: form(value) for name, (value, form) in numbers.items() if isinstance(value, int | float)}
    return {**totals, **_async(summary), **_agents(summary), **_failures(summary)}


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
