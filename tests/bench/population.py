"""What a population costs: ``python -m tests.bench.population [--most N] [--plot FILE.png]``.

FedAvg, 50 clients a round, over 100 to a million clients with ten samples of 60 numbers each, which lie in .npy files;
then over cohorts of one population, and over client actors. Every measurement is a process of its own, and the cases
take turns; the figures are medians. Memory is that of all processes of the run, shared pages counted once (PSS).

A checkpoint is one of LG-FedAvg, whose clients keep a model each, ten rounds after the one before. The largest set
takes 2.5 GB of the temporary folder, and everything together about half an hour.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.processes import family, proportional_memory

if TYPE_CHECKING:
    from strata.engine.federation import Federation

SAMPLES, FEATURES, CLASSES, COHORT = 10, 60, 10, 50
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
COHORTS, ACTORS = (10, 50, 200, 1_000), (1, 2, 4)
REPETITIONS, ROUNDS = 5, 10
RUNTIMES = {"in-process": ("runtime=inprocess",), "Ray": ("runtime=ray",)}
FIGURES = {
    "start_s": "start, s",
    "first_s": "first round after, s",
    "round_ms": "ms per round",
    "memory_gib": "memory, GiB",
    "checkpoint_ms": "checkpoint, ms",
    "checkpoint_mb": "written, MB",
}
WORDS = ("partition=natural", "partition.min_samples=2", "model=mlp", "model.hidden=[64]", "tracking.wandb=disabled")


def written(folder: Path, clients: int) -> Path:
    """The data of so many clients, as a folder of .npy files."""
    made, rows = folder / str(clients), clients * SAMPLES
    if made.exists():
        return made
    made.mkdir()
    rng = np.random.default_rng(0)
    rule = rng.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    x = np.lib.format.open_memmap(made / "X.npy", "w+", np.float32, (rows, FEATURES))
    y = np.lib.format.open_memmap(made / "y.npy", "w+", np.int64, (rows,))
    for first in range(0, rows, 200_000):
        part = rng.standard_normal((min(200_000, rows - first), FEATURES), dtype=np.float32)
        x[first : first + len(part)], y[first : first + len(part)] = part, (part @ rule).argmax(1)
    np.save(made / "client.npy", np.repeat(np.arange(clients, dtype=np.int32), SAMPLES))
    return made


def measured(data: Path, case: "Case") -> dict[str, float]:
    """The figures of a case: of a run, and, where only the population differs, of one with checkpoints."""
    clients, cohort, actors, runtime = case
    words = [f"data={data}", *WORDS, *RUNTIMES[runtime], f"clients.count={clients}"]
    words += [f"clients.participation={cohort / clients}", f"evaluation.clients={min(cohort, clients)}"]
    words += [f"clients_per_actor={-(-clients // actors)}", "clients.num_cpus=0.5"]
    found = child("fedavg", words)
    return found | child("lg_fedavg", words) if (cohort, actors) == (COHORT, 2) else found


def child(method: str, words: Sequence[str]) -> dict[str, float]:
    """Run :func:`run` in a process of its own, whose memory is looked at from here."""
    began = time.time()
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.population", "--run", method, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found: dict[str, float] = json.loads(process.stdout.readline())
        if method == "fedavg":
            found["memory_gib"] = sum(proportional_memory(pid) for pid in family(process.pid)) / 2**30
            found |= {name: found[name] - began for name in ("start_s", "first_s")}
        process.communicate("\n")
    return found


def run(method: str, words: Sequence[str]) -> None:
    """Print the figures of a run as JSON, and wait until they were read."""
    from strata.engine.config.load import load_config
    from strata.engine.federation import Federation

    with Federation(load_config(method, ["rounds=1000000", *words])) as federation:
        found = {"start_s": time.time()}
        federation.run_round()
        found["first_s"] = time.time()
        times = [timed(federation.run_round) for _ in range(ROUNDS)]
        found["round_ms"] = statistics.median(times) * 1e3
        if method != "fedavg":
            found = checkpoint(federation)
        print(json.dumps(found), flush=True)
        input()


def checkpoint(federation: "Federation") -> dict[str, float]:
    """What the second checkpoint of a run takes: the first one has everything to write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        federation.save(folder)
        for _ in range(ROUNDS):
            federation.run_round()
        before = weight(folder)
        seconds = timed(lambda: federation.save(folder))
        return {"checkpoint_ms": seconds * 1e3, "checkpoint_mb": (weight(folder) - before) / 1e6}


def weight(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def timed(action: Callable[[], object]) -> float:
    """Seconds of an action."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


Case = tuple[int, int, int, str]  # clients, cohort, actors, runtime
Results = dict[Case, dict[str, list[float]]]


def measure(cases: Sequence[Case], folder: Path, console: Console) -> Results:
    """Measure all cases several times, in turns."""
    results: Results = {case: defaultdict(list) for case in cases}
    for turn in range(REPETITIONS):
        for case in cases:
            for name, value in measured(written(folder, case[0]), case).items():
                results[case][name].append(value)
        console.print(f"turn {turn + 1} of {REPETITIONS} done", style="dim")
    return results


def table(title: str, cases: Iterable[Case], results: Results) -> Table:
    """The medians of some cases."""
    made = Table("clients", "a round", "actors", "", *FIGURES.values(), title=title)
    for case in cases:
        clients, cohort, actors, runtime = case
        numbers = [f"{statistics.median(results[case][name]):.3g}" if results[case][name] else "" for name in FIGURES]
        made.add_row(f"{clients:,}", str(cohort), "" if runtime != "Ray" else str(actors), runtime, *numbers)
    return made


def plot(path: Path, sizes: Sequence[int], results: Results) -> None:
    """Draw the figures over the population, a panel each."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
    for panel, (name, title) in zip(panels.flat, FIGURES.items(), strict=True):
        for runtime in RUNTIMES:
            medians = [statistics.median(results[clients, COHORT, 2, runtime][name]) for clients in sizes]
            panel.plot(sizes, medians, marker="o", label=runtime)
        panel.set(xscale="log", title=title, ylim=(0, None), xlabel="clients")
    panels[0, 0].legend()
    figure.savefig(path, dpi=150)


def main(words: Sequence[str]) -> None:
    """Measure and print everything, or, in a process of :func:`child`, one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="the largest population")
    parser.add_argument("--plot", type=Path, help="also draw the figures over the population")
    parser.add_argument("--run", nargs="+", metavar="WORD", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.run:
        return run(arguments.run[0], arguments.run[1:])
    sizes = [size for size in SIZES if size <= arguments.most]
    of_sizes: list[Case] = [(size, COHORT, 2, runtime) for size in sizes for runtime in RUNTIMES]
    widths: list[Case] = [(sizes[-1], min(cohort, sizes[-1]), 2, runtime) for cohort in COHORTS for runtime in RUNTIMES]
    of_actors: list[Case] = [(sizes[-1], COHORT, actors, "Ray") for actors in ACTORS]
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(list(dict.fromkeys([*of_sizes, *widths, *of_actors])), Path(folder), console)
    for title, cases in (("population", of_sizes), ("cohort", widths), ("actors", of_actors)):
        console.print(table(title, cases, results))
    if arguments.plot:
        plot(arguments.plot, sizes, results)
    return None


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"
    main(sys.argv[1:])
