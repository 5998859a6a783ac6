"""What the engine itself costs: ``python -m tests.bench.engine_costs``.

* per client call: a FedAvg round over two client actors whose clients train one step on a tiny model, against the same
  training driven in-process, so that the difference is the engine's and Ray's own cost;
* hand-over: what of a round is neither the clients' work nor the servers', beside Ray's own calls with as many bytes;
* from the command to its first round with 100 clients in two actors;
* memory of a whole run (all its processes) with 100 and with 1,000 clients in two actors;
* virtual agents, one RLlib module per client: making them, and what they cost a round, for 100 and for 1,000 clients.
"""

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import ray
from gymnasium.spaces import Box, MultiDiscrete

from strata.agents.rllib_policies import LearntPolicies
from strata.engine.config.agents import AgentsConfig
from strata.engine.config.load import load_config
from strata.engine.config.schema import RunConfig
from strata.engine.federation import Federation
from strata.engine.method.control import AgentSpec
from strata.engine.method.situation import Situation
from strata.engine.stopwatch import HANDOVER
from tests.bench.processes import family, proportional_memory
from tests.bench.workloads import CORES, SETTINGS, words, written

TINY = (
    "data.limit=12000",
    "model=mclr",
    "method.steps=1",
    "method.batch_size=1",
    "partition=iid",
    "tracking.wandb=disabled",
)
ROUNDS, CLIENTS = 40, 100


def config(clients: int, *more: str) -> RunConfig:
    """FedAvg over ``clients`` clients in two actors, evaluated at the end only."""
    words = [f"clients.count={clients}", "ray.num_cpus=2", "evaluation.every=100000", "rounds=100000", *TINY, *more]
    return load_config("fedavg", words)


def seconds_per_round(federation: Federation) -> float:
    """Median over some rounds after a warm-up."""
    times = []
    for number in range(ROUNDS + 5):
        began = time.perf_counter()
        federation.run_round()
        if number >= 5:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def call_overhead() -> None:
    """Print what one client call costs beyond its training."""
    with Federation(config(CLIENTS, "runtime=inprocess")) as federation:
        alone = seconds_per_round(federation) / CLIENTS
    with Federation(config(CLIENTS)) as federation:
        actors = seconds_per_round(federation) / CLIENTS
    print(f"in-process: {alone * 1e3:.3f} ms per client call, everything included (one step, one thread)")
    print(f"two client actors: {actors * 1e3:.3f} ms per client call, wall clock, two calls at a time")
    print(f"engine and Ray beyond half of the in-process figure: {(actors - alone / 2) * 1e3:.3f} ms per client call")


def start_and_memory(clients: int) -> None:
    """Print when a command's first round is written, and the memory of all its processes some rounds later."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"clients.count={clients}", "ray.num_cpus=2", "evaluation.every=100000", "rounds=100000", *TINY]
        began = time.perf_counter()
        command = [sys.executable, "-m", "strata.cluster.cli", "run", "fedavg", *words, f"output={folder}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            rounds_written(process, Path(folder), 1)
            started = time.perf_counter() - began
            rounds_written(process, Path(folder), 6)
            memory = sum(proportional_memory(pid) for pid in family(process.pid))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    print(f"{clients} clients in two actors: first round done after {started:.1f} s, {memory / 2**30:.2f} GiB in all")


def rounds_written(process: "subprocess.Popen[bytes]", folder: Path, rounds: int) -> None:
    """Wait until a run below a folder has written so many rounds."""
    while not any(len(path.read_bytes().splitlines()) >= rounds for path in folder.glob("*/metrics.jsonl")):
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode}")
        time.sleep(0.01)


class Exchanging:
    """An actor of a bare exchange: a client's gives back as much as Strata's sends, a server's hands on and waits."""

    def trained(self, model: np.ndarray) -> np.ndarray:
        """A sum of models, in float64."""
        return model.astype(np.float64)

    def round(self, parameters: int, actors: Sequence[Any]) -> float:
        """Hand a model to actors, and take what each gives back."""
        sent = ray.put(np.zeros(parameters, np.float32))
        return float(sum(ray.get(ref)[0] for ref in [actor.trained.remote(sent) for actor in actors]))


def hand_over() -> None:
    """Print what is no work of clients or servers in a round, beside an exchange of as many bytes by Ray alone."""
    setting = SETTINGS[0]
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    actor: Any = ray.remote(Exchanging)
    ours, bare = [], []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        federation = stack.enter_context(Federation(load_config("fedavg", words(setting, written(folder, setting)))))
        parameters = sum(value.numel() for value in federation.global_model().parameters())
        server, clients = actor.remote(), [actor.remote() for _ in range(CORES)]
        for number in range(1, ROUNDS + 1):
            ours.append(federation.run_round(ahead=number < ROUNDS).seconds[HANDOVER])
        for _ in range(ROUNDS):
            began = time.perf_counter()
            ray.get(server.round.remote(parameters, clients))
            bare.append(time.perf_counter() - began)
    ray.shutdown()
    print(f"{setting.name}: hand-over {1e3 * statistics.median(ours[5:]):.1f} ms a round", end="; ")
    print(f"Ray alone, for as many bytes between as many actors, {1e3 * statistics.median(bare[5:]):.1f} ms")


def virtual_agents(clients: int, cohort: int) -> None:
    """Print what deciding and learning cost a round in which ``cohort`` of the virtual agents act."""
    spec = AgentSpec(Box(1.0, 1.0, (1,), np.float32), MultiDiscrete([3] * 10), "reinforce", 0.5)
    began = time.perf_counter()
    policies = LearntPolicies({f"client_{k}": spec for k in range(clients)}, AgentsConfig(policy="rllib"), 0)
    made, times = time.perf_counter() - began, []
    for number in range(1, 6):
        cohort_ids = sorted((number * cohort + k) % clients for k in range(cohort))
        situation = Situation(number, cohort_ids, *[np.zeros(cohort)] * 4)  # which virtual agents do not look at
        seen = {f"client_{k}": np.ones(1, np.float32) for k in cohort_ids}
        began = time.perf_counter()
        policies.act(number, situation, {}, seen)
        policies.learn(number, dict.fromkeys(seen, 0.1))
        times.append(time.perf_counter() - began)
    print(
        f"{clients} virtual agents made in {made:.1f} s; a round in which {cohort} of them decide and learn: "
        f"{statistics.median(times):.2f} s"
    )


def main() -> None:
    """Run all benchmarks, one after the other."""
    steps: list[Callable[[], None]] = [
        call_overhead,
        hand_over,
        lambda: start_and_memory(100),
        lambda: start_and_memory(1000),
        lambda: virtual_agents(100, 100),
        lambda: virtual_agents(1000, 50),
        lambda: virtual_agents(1000, 1000),
    ]
    for step in steps:
        step()


if __name__ == "__main__":
    main()
