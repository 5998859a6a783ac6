"""Clients per second, side by side: ``python -m tests.bench.throughput [WORD ...] [--pfl PYTHON] [--flower PYTHON]``.

A plain single-thread loop, Strata in-process and on Ray with two actors, each one by one and batched, take turns in
one run; the figures are medians. Efficiency is a share of what the plain loop would reach on all cores at once. Words
choose the settings whose names hold one of them; pfl-research and Flower take part where they are given a Python of
their own (:mod:`tests.bench.peers`).
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import ray
import torch
from rich.console import Console
from rich.table import Table

from strata.engine.build import build_world
from strata.engine.config.load import load_config
from strata.engine.federation import Federation
from strata.engine.models.factory import spec_of
from tests.bench.peers import driver
from tests.bench.plain import PlainLoop
from tests.bench.workloads import BATCH, CORES, SETTINGS, Setting, strata, words, written

REPETITIONS = 7
ARMS = {
    "Strata in-process": ("runtime=inprocess", "training.batch_clients=1"),
    "Strata in-process, batched": ("runtime=inprocess", "training.batch_clients=128"),
    "Strata on Ray": ("training.batch_clients=1",),
    "Strata on Ray, batched": ("training.batch_clients=128",),
}


Rounds = AbstractContextManager[Callable[[int], float]]


def plain_loop(setting: Setting, overrides: list[str]) -> Callable[[], float]:
    """Seconds of a round of the plain loop, on the same model and rows."""
    config = load_config("fedavg", [*overrides, "runtime=inprocess"])
    world = build_world(config)
    dataset = world.data.dataset
    x = torch.from_numpy(dataset.x).float().div(255).sub(dataset.shift).div(dataset.scale)
    model = spec_of(config.model, dataset.input_shape, dataset.classes).build()
    loop = PlainLoop(model, x, torch.from_numpy(dataset.y), [rows.train for rows in world.data.clients], 0.01)
    rng = np.random.default_rng(1)
    return lambda: loop.round(rng.choice(setting.clients, setting.cohort, replace=False), BATCH, setting.steps)


def peers(setting: Setting, folder: str, pythons: Mapping[str, str]) -> Iterator[tuple[str, Rounds]]:
    """Each peer that has a Python, ready for its first round."""
    data = written(folder, setting)
    config = load_config("fedavg", [*words(setting, data), "runtime=inprocess"])
    train = {"data": data, "clients": setting.clients, "cohort": setting.cohort, "samples": setting.samples}
    train |= {"batch": BATCH, "steps": setting.steps, "lr": 0.01}
    work = driver.written(Path(folder), spec_of(config.model, (1, 28, 28), 10), train)
    starts = {"pfl-research": driver.pfl, "Flower": driver.flower}
    for name, python in pythons.items():
        yield f"{name}, {CORES} processes", starts[name](python, work, CORES)


def measure(setting: Setting, folder: str, pythons: Mapping[str, str]) -> dict[str, list[float]]:
    """Seconds per round of each arm, one value per repetition; the arms take turns."""
    overrides = words(setting, written(folder, setting))
    with ExitStack() as stack:
        arms = {"plain loop, one thread": plain_loop(setting, overrides)}
        for name, own in ARMS.items():
            config = load_config("fedavg", [*overrides, *own])
            arms[name] = strata(stack.enter_context(Federation(config)), setting.rounds)
        for name, peer in peers(setting, folder, pythons):
            arms[name] = partial(stack.enter_context(peer), 1)
        for seconds in arms.values():  # the first rounds load and record
            for _ in range(3 * setting.rounds):
                seconds()
        times: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(REPETITIONS):
            for name, seconds in arms.items():
                times[name].append(sum(seconds() for _ in range(setting.rounds)) / setting.rounds)
    return times


def show(console: Console, setting: Setting, times: dict[str, list[float]]) -> None:
    """Print one setting's table."""
    table = Table("", "ms per round", "least to most", "clients/s", f"of {CORES} × plain", title=setting.name)
    rates = {name: setting.cohort / statistics.median(values) for name, values in times.items()}
    plain = next(iter(rates.values()))
    for name, values in times.items():
        spread = f"{min(values) * 1e3:.0f} to {max(values) * 1e3:.0f}"
        share = rates[name] / (CORES * plain)
        table.add_row(name, f"{statistics.median(values) * 1e3:.1f}", spread, f"{rates[name]:.0f}", f"{share:.2f}")
    console.print(table)


def main(arguments: list[str]) -> None:
    """Measure and print all settings, or those whose names hold one of the words given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chosen", nargs="*", metavar="WORD")
    parser.add_argument("--pfl", help="a Python that has pfl-research")
    parser.add_argument("--flower", help="a Python that has Flower")
    given = parser.parse_args(arguments)
    chosen = given.chosen
    pythons = {name: path for name, path in {"pfl-research": given.pfl, "Flower": given.flower}.items() if path}
    ray.init(address="local", num_cpus=CORES * len(ARMS), include_dashboard=False, log_to_driver=False)
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder:
        for setting in SETTINGS:
            if not chosen or any(word in setting.name for word in chosen):
                show(console, setting, measure(setting, folder, pythons))
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
