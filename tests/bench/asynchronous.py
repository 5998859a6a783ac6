"""Wall seconds of asynchronous rounds and of synchronous ones, side by side: ``python -m tests.bench.asynchronous``.

Four client actors share this machine's cores. Both make the same number of calls of clients, of unequal size, and take
turns; a ratio near one says that clients on a call really train side by side, though what they send is taken in one
after the other, in the order of the virtual clock.
"""

import statistics
import time
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from strata.engine.config.load import load_config
from strata.engine.federation import Federation

REPETITIONS = 5
COHORT, ROUNDS = 20, 5
WORDS = (
    "rounds=1000000",
    "clients.count=40",
    "clients_per_actor=10",
    "clients.num_cpus=0.1",
    "clients.participation=0.5",
    "partition.sizes=lognormal",
    "model=cnn",
    "model.width=0.5",
    "method.epochs=1",
    "data.limit=6000",
    "delays=pareto",
    "evaluation.every=1000000",
    "checkpoint.every=1000000",
)
ARMS = {
    "synchronous": (),
    "FedAsync": ("clients.mode=async", f"clients.concurrency={COHORT}", "clients.buffer=1"),
    "FedBuff": ("clients.mode=async", f"clients.concurrency={COHORT}", f"clients.buffer={COHORT // 2}"),
}


def seconds(federation: Federation) -> float:
    """Wall seconds per call of a client, over as many calls as a few synchronous rounds have."""
    calls, began = 0, time.perf_counter()
    while calls < ROUNDS * COHORT:
        calls += len(federation.run_round().calls)
    return (time.perf_counter() - began) / calls


def main() -> None:
    """Print the table."""
    found: dict[str, list[float]] = {name: [] for name in ARMS}
    with ExitStack() as stack:
        arms = {
            name: stack.enter_context(Federation(load_config("fedavg", [*WORDS, *own]))) for name, own in ARMS.items()
        }
        for repetition in range(REPETITIONS + 1):
            for name, federation in arms.items():
                value = 1e3 * seconds(federation)
                if repetition:  # the first loads and records
                    found[name].append(value)
    table = Table("", "ms a call, median", "least to most", "of synchronous", title="Asynchronous rounds, four actors")
    base = statistics.median(next(iter(found.values())))
    for name, values in found.items():
        median = statistics.median(values)
        table.add_row(name, f"{median:.1f}", f"{min(values):.1f} to {max(values):.1f}", f"{median / base:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
