"""Which architectures the clients of a run ended with, read from its folder: a table, a CSV and a picture.

For every method whose clients report the options that were chosen for them (:meth:`Algorithm.is_choice`). What a client
ended with is what was chosen at its last call. Everything comes from the rounds on disk, so a run that was resumed
leaves the same files as an undisturbed one, and those of a run that was killed can be made later.
"""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from strata.algorithms.controls.searching import ACCURACY, BUDGET_MIB, MEMORY_MIB, agent_of
from strata.cluster.humanise import NOTHING, humanise_accuracy, humanise_seconds
from strata.cluster.sinks.by_client import calls_by_round
from strata.cluster.sinks.jsonl import CONFIG, METRICS, read_metrics
from strata.cluster.sinks.sink import Plain
from strata.engine.config.written import read_yaml
from strata.engine.errors import StrataError
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.control import ENTROPY, curve_of
from strata.engine.method.find import load_method

Method = type[Algorithm[Any, Any, Any, Any]]

TABLE, PICTURE = "architectures.csv", "architectures.png"
SHOWN = 20  # rows in a terminal
CLASSES = 3  # of clients by their budget, in the picture
PHASES = ("latency_s", "download_s", "compute_s", "upload_s")


@dataclass(frozen=True)
class Choice:
    """What was chosen for a client at its last call.

    Attributes:
        call: its last call for which an architecture was chosen, as plain values.
        round: of that call.
        calls: how many such calls there were.
        options: chosen, by slot.
        entropy: of the policy that chose, in nats; NaN where no learnt policy did.
    """

    call: Mapping[str, Any]
    round: int
    calls: int
    options: Mapping[str, float]
    entropy: float

    @property
    def total_s(self) -> float:
        """Virtual seconds of the call."""
        return float(sum(self.call[phase] for phase in PHASES))

    def metric(self, name: str) -> float:
        """A number that the client reported; NaN where it did not."""
        value = self.call["metrics"].get(name)
        return math.nan if value is None else value


@dataclass(frozen=True)
class Architectures:
    """What the clients of a run ended with.

    Attributes:
        run_dir: folder of the run.
        slots: the decisions among which there was a choice, in their order.
        options: those chosen at any time, ascending, by slot.
        clients: what was chosen last, by client id, ascending.
        entropies: of the policies that chose, in nats, by client and by round.
    """

    run_dir: Path
    slots: Sequence[str]
    options: Mapping[str, Sequence[float]]
    clients: Mapping[int, Choice]
    entropies: Mapping[int, Mapping[int, float]]

    @cached_property
    def reported(self) -> list[str]:
        """Names of the other numbers that clients reported, in their order."""
        names = dict.fromkeys(name for one in self.clients.values() for name in one.call["metrics"])
        return [name for name in names if name not in self.slots]

    @property
    def uniform(self) -> float:
        """Entropy, in nats, of a policy that takes each of the options seen with the same probability."""
        return sum(math.log(len(options)) for options in self.options.values())

    @cached_property
    def classes(self) -> list[dict[int, Choice]]:
        """The clients by their memory budget, a third each, the smallest first; one class where all have the same."""
        ordered = sorted(self.clients.items(), key=lambda item: item[1].metric(BUDGET_MIB))
        budgets = {one.metric(BUDGET_MIB) for one in self.clients.values()}
        if len(budgets) < CLASSES or not all(map(math.isfinite, budgets)):
            return [dict(self.clients)]
        ends = [len(ordered) * number // CLASSES for number in range(CLASSES + 1)]
        return [dict(ordered[first:last]) for first, last in pairwise(ends)]

    def shares(self, slot: str, among: Mapping[int, Choice]) -> dict[float, float]:
        """The share (0..1) of some clients that ended with each option of a slot; nothing where none chose there."""
        chosen = [one.options[slot] for one in among.values() if slot in one.options]
        return {option: chosen.count(option) / len(chosen) for option in self.options[slot] if chosen}

    def csv(self) -> str:
        """All clients as CSV: a row each, with all slots and all that it reported; empty where there is nothing."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["client", "device", "round", "calls", "status", *self.slots, "entropy_nats", *self.reported, "total_s"]
        )
        for client, one in self.clients.items():
            options = [_plain(one.options.get(slot, math.nan)) for slot in self.slots]
            numbers = [_plain(value) for value in (one.entropy, *map(one.metric, self.reported), one.total_s)]
            writer.writerow([client, one.call["device"], one.round, one.calls, one.call["status"], *options, *numbers])
        return text.getvalue()

    def table(self) -> Table:
        """What the first clients ended with, and means over all, for a terminal."""
        table = Table(title="what was chosen last for each client", title_justify="left", box=box.SIMPLE_HEAD)
        headings = ("client", "device", "architecture", "entropy", "accuracy", "latency", "memory / budget")
        for heading in headings:
            left = heading in ("device", "architecture")
            table.add_column(heading, justify="left" if left else "right", overflow="fold")
        for client, one in list(self.clients.items())[:SHOWN]:
            table.add_row(*map(Text, (str(client), *self._cells(one))))
        table.add_section()
        table.add_row(*map(Text, self._means()), style="bold")
        return table

    def _cells(self, one: Choice) -> list[str]:
        return [
            one.call["device"],
            notation(one.options),
            _nats(one.entropy),
            humanise_accuracy(one.metric(ACCURACY)),
            humanise_seconds(one.total_s),
            _memory(one.metric(MEMORY_MIB), one.metric(BUDGET_MIB)),
        ]

    def _means(self) -> list[str]:
        """The last row: how many clients and different architectures, and means over all clients."""
        everyone = list(self.clients.values())
        different = len({tuple(one.options.items()) for one in everyone})
        memory, budget = (_mean(one.metric(name) for one in everyone) for name in (MEMORY_MIB, BUDGET_MIB))
        return [
            f"all {len(everyone)}",
            "",
            f"{different} different",
            _nats(_mean(one.entropy for one in everyone)),
            humanise_accuracy(_mean(one.metric(ACCURACY) for one in everyone)),
            humanise_seconds(_mean(one.total_s for one in everyone)),
            _memory(memory, budget),
        ]

    def reading(self) -> list[str]:
        """How to read the table, and where the whole of it is."""
        lines = [f"architecture: {slot_notation(self.slots)}"]
        if self.entropies:
            lines.append(f"entropy: of the client's policy, in nats; {self.uniform:.2f} where all is equally likely")
        rest = len(self.clients) - SHOWN
        more = f"{rest} more clients, and every number: " if rest > 0 else "every number: "
        return [*lines, f"{more}{self.run_dir / TABLE}", f"drawn: {self.run_dir / PICTURE}"]


def read_architectures(run_dir: Path) -> Architectures:
    """Read what the clients of a run ended with from its folder.

    Raises:
        StrataError: where there is no run, or its clients report no choices.
        ConfigError: for a run of a method that is not here.
    """
    for name in (CONFIG, METRICS):
        if not (run_dir / name).is_file():
            raise StrataError(
                f"{run_dir}: expected the folder of a run, with {CONFIG} and {METRICS}; {name} is missing."
            )
    name = str(read_yaml(run_dir / CONFIG).get("algorithm"))
    method, rounds = load_method(name), read_metrics(run_dir / METRICS)
    try:
        found = gather(run_dir, method, rounds, calls_by_round(run_dir))
    except (KeyError, TypeError, AttributeError) as error:
        raise StrataError(f"{run_dir / METRICS}: not the rounds of a run: {error}.") from None
    if not found.clients:
        raise StrataError(
            f"{run_dir}: no client of this run of {name} reports an architecture that was chosen for it; expected a "
            "run of a method that searches."
        )
    return found


def gather(
    run_dir: Path, method: Method, rounds: Sequence[Plain], calls: Mapping[int, Sequence[Plain]]
) -> Architectures:
    """Collect what the clients ended with from the lines of ``metrics.jsonl`` and the calls of each round."""
    slots: dict[str, set[float]] = {}
    clients: dict[int, Choice] = {}
    entropies: dict[int, dict[int, float]] = {}
    for plain in rounds:
        number, metrics = plain["round"], plain["metrics"]
        for call in calls.get(number, ()):
            client = call["client"]
            options = {name: value for name, value in call["metrics"].items() if method.is_choice(name)}
            if not options:
                continue
            for slot, option in options.items():
                slots.setdefault(slot, set()).add(option)
            before = clients.get(client)
            entropy = metrics.get(curve_of(agent_of(client), ENTROPY))
            clients[client] = Choice(
                call, number, before.calls + 1 if before else 1, options, math.nan if entropy is None else entropy
            )
            if entropy is not None:
                entropies.setdefault(client, {})[number] = entropy
    options_of = {slot: sorted(found) for slot, found in slots.items()}
    return Architectures(run_dir, list(slots), options_of, dict(sorted(clients.items())), entropies)


def chooses(method: Method) -> bool:
    """Whether clients of a method report options that were chosen for them."""
    return method.has_choices


def notation(options: Mapping[str, float]) -> str:
    """Options slot by slot, those of a stage together: ``16/2/5 24/3/3/2``."""
    parts = groupby(options.items(), key=lambda item: item[0].partition(".")[0])
    return " ".join("/".join(_plain(option) for _, option in own) for _, own in parts)


def slot_notation(slots: Sequence[str]) -> str:
    """The slots in the form of :func:`notation`: ``stage1 width/depth · stage2 width/depth``."""
    parts = groupby(slots, key=lambda slot: slot.partition(".")[0])
    return " · ".join(f"{name} {'/'.join(slot.partition('.')[2] for slot in own)}".strip() for name, own in parts)


def _plain(value: float) -> str:
    """A number without loss, whole ones without a point; nothing for NaN."""
    if math.isnan(value):
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _nats(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2f}"


def _memory(used: float, budget: float) -> str:
    if math.isnan(used):
        return NOTHING
    return f"{used:.1f} MiB" if math.isnan(budget) else f"{used:.1f} / {budget:.1f} MiB"


def _mean(values: Iterator[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.nan
