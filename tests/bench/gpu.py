"""Batched against one by one on a GPU: ``python -m tests.bench.gpu [WORD ...] [--device cuda] [--clients 10 100]``.

Each line is a round in which all clients train five steps of 10 samples, in-process; the two ways take turns, and the
figures are medians. Words choose the models whose names hold one of them.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from strata.engine.config.load import load_config
from strata.engine.federation import Federation
from tests.bench.workloads import CNN_29K, CNN_215K, Setting, strata, words, written

REPETITIONS = 3
CLIENTS = (10, 100, 1000)
MODELS: dict[str, tuple[str, ...]] = {
    "MCLR": ("model=mclr",),
    "MLP 784-64-10": ("model=mlp", "model.hidden=[64]"),
    "CNN of 21 k": CNN_29K,
    "CNN of 215 k": CNN_215K,
    "supernet MobileNetV3, small": ("model=mobilenetv3_small",),
}
ARMS = {"one by one": 1, "batched": "auto"}


def measure(model: tuple[str, ...], clients: int, device: str) -> dict[str, float]:
    """Median milliseconds of a round, one by one and batched."""
    setting = Setting("", model, clients, clients, 50, 5, 1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        common = [*words(setting, written(folder, setting)), "runtime=inprocess", "delays.name=none"]
        share = ["clients.num_gpus=1"] if device == "cuda" else []
        arms = {}
        for name, width in ARMS.items():
            config = load_config("fedavg", [*common, *share, f"training.batch_clients={width}"])
            arms[name] = strata(stack.enter_context(Federation(config)), 1)
        for seconds in arms.values():  # the first rounds load and record
            for _ in range(2):
                seconds()
        times: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(REPETITIONS):
            for name, seconds in arms.items():
                times[name].append(seconds() * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def main(arguments: list[str]) -> None:
    """Measure and print all models, or those whose names hold one of the words given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chosen", nargs="*", metavar="WORD")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--clients", nargs="*", type=int, default=CLIENTS)
    given = parser.parse_args(arguments)
    table = Table("model", "clients", *(f"{name}, ms a round" for name in ARMS), "times as fast")
    for name, model in MODELS.items():
        if not given.chosen or any(word in name for word in given.chosen):
            for clients in given.clients:
                singly, batched = measure(model, clients, given.device).values()
                table.add_row(name, f"{clients:,}", f"{singly:.1f}", f"{batched:.1f}", f"{singly / batched:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
