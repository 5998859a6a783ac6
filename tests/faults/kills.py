"""Processes killed at random moments of a run, which must end as if nothing had happened.

``python -m tests.faults.kills --kills 30 --seed 7`` plays a longer schedule than the tests do, and prints what it did.
"""

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import ray
from ray.cluster_utils import Cluster

from strata.cluster.run import runner
from strata.cluster.run.runner import new_run_dir, run_one
from strata.cluster.run.session import Session
from strata.cluster.sinks.display import PlainDisplay
from strata.cluster.terminal import console
from strata.engine.config.schema import RunConfig
from strata.engine.errors import ActorDiedError, ClusterError, ResourceError
from strata.engine.runtime.lean.leaving_out import lean
from tests.helpers.small import small

MOMENTS = ("round", "evaluation", "checkpoint")
START = "start"  # before the first round, once all actors are there
VICTIMS = ("client actor", "team server", "global server", "node")
LONGEST_S = 0.3  # from the moment's begin to the kill
ROUNDS = 20
EVERY = 2  # rounds between two checkpoints


@dataclass(frozen=True)
class Kill:
    """What is killed, in which round, and when: so many seconds after a part of the round begins."""

    round: int
    moment: str
    victim: str
    after_s: float


def schedule(rng: random.Random, kills: int, victims: Sequence[str]) -> list[Kill]:
    """Kills in distinct rounds, 0 being before the first one; there are checkpoints of every second round."""
    rounds = sorted(rng.sample(range(ROUNDS), kills))
    moments = [rng.choice(MOMENTS if r % EVERY == 0 else MOMENTS[:-1]) if r else START for r in rounds]
    parts = zip(rounds, moments, strict=True)
    return [Kill(r, moment, rng.choice(victims), rng.uniform(0, LONGEST_S)) for r, moment in parts]


@contextmanager
def three_nodes() -> Iterator[Cluster]:
    """A cluster of three nodes on this machine; the head has no room for actors that take CPUs."""
    with lean():
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(2):
            nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


class Killer:
    """Kills what a schedule says while a run goes on, each once."""

    def __init__(self, nodes: Cluster, kills: Sequence[Kill]) -> None:
        self._nodes, self._left = nodes, list(kills)
        self.done: list[str] = []
        self._of: object = None
        self._pids: list[int] = []
        self._doomed: list[object] = []
        self._threads: list[threading.Thread] = []

    def at(self, moment: str, session: Session) -> None:
        """A part of a round begins: arm the kill that is due in it, if there is one."""
        if self._of is not session.federation.runtime:  # its processes, while all of them are alive
            self._of, self._pids = session.federation.runtime, pids_of(session.federation.runtime.handles)
        due = [
            kill for kill in self._left if (kill.round, kill.moment) == (session.round + (moment == "round"), moment)
        ]
        for kill in due:
            self._left.remove(kill)
            strike = self._node() if kill.victim == "node" else self._actor(kill.victim, session)
            thread = threading.Thread(target=lambda kill=kill, strike=strike: (time.sleep(kill.after_s), strike()))
            thread.start()
            self._threads.append(thread)
            self.done.append(f"{kill.victim}, {kill.after_s * 1e3:.0f} ms into the {kill.moment} of round {kill.round}")

    def _actor(self, tier: str, session: Session):
        teams = len(session.federation.world.data.teams)
        pids = {
            "client actor": self._pids[: -1 - teams],
            "team server": self._pids[-1 - teams : -1],
            "global server": self._pids[-1:],
        }[tier]
        pid = random.Random(len(self.done)).choice(pids)
        return partial(struck, pid)

    def _node(self):
        (victim, *_) = [
            node for node in sorted(self._nodes.worker_nodes, key=lambda node: node.node_id) if node not in self._doomed
        ]
        self._doomed.append(victim)
        with lean():
            self._nodes.add_node(num_cpus=2)  # which the actors are seated on once they are started again

        def strike() -> None:
            self._nodes.remove_node(victim, allow_graceful=False)

        return strike

    def wait(self) -> None:
        """Until all that was armed has been killed."""
        for thread in self._threads:
            thread.join()


def struck(pid: int) -> None:
    """Kill a process, if an earlier kill has not ended it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def pids_of(handles) -> list[int]:
    """Process ids of actors."""
    return ray.get([handle.__ray_call__.remote(lambda shell: os.getpid()) for handle in handles])


def played(config: RunConfig, folder: Path, killer: Killer | None) -> tuple[dict[str, str], bytes, str]:
    """A run's fingerprint, its metrics, and what it printed; with a killer, while that kills."""
    ends: list[dict[str, str]] = []
    saved: list[Path] = []

    class Watched(Session):
        def __init__(self, *given, **settings):
            super().__init__(*given, **settings)
            if killer is not None:
                killer.at(START, self)

        def run_round(self, ahead=False):
            rounds = self.federation.rounds
            if killer is not None:
                killer.at("round", self)
                evaluate = type(rounds).__getattr__(rounds, "evaluate")
                rounds.evaluate = lambda: (killer.at("evaluation", self), evaluate())[1]
            return super().run_round(ahead)

        def save(self, folder):
            if killer is not None:
                killer.at("checkpoint", self)
            saved.append(super().save(folder))
            return saved[-1]

        def close(self):
            if self.round == self.config.rounds:
                ends.append(self.end())
            super().close()

        def end(self):
            """The fingerprint after the last round; a kill may strike when the run is over and only this is left."""
            if killer is not None:
                killer.wait()
            for _ in range(30):
                try:
                    return self.fingerprint()
                except (ActorDiedError, ClusterError):
                    time.sleep(1)
                    with suppress(ActorDiedError, ClusterError, ResourceError):
                        self.restart()
                        self.restore(saved[-1])
            raise AssertionError("the actors could not be started once more")

    with (folder / "shown.txt").open("w+") as shown, mock.patch.object(runner, "Session", Watched):
        terminal = console()
        terminal.file = shown
        run_dir = new_run_dir(config)
        summary = run_one(config, run_dir, PlainDisplay(terminal))
        if killer is not None:
            killer.wait()
        assert summary.exit_code == 0
        shown.seek(0)
        return ends[-1], (run_dir / "metrics.jsonl").read_bytes(), shown.read()


def config_of(method: str, output: Path, *words: str, runtime: str = "ray") -> RunConfig:
    """A small run that is saved after every second one."""
    own = (f"rounds={ROUNDS}", f"checkpoint.every={EVERY}", f"output={output}", "clients_per_actor=auto", *words)
    own = (*own, "ray.start_timeout_s=300")  # how fast a busy machine starts actors is another question
    return small(method, *own, runtime=runtime)


TEAMS = ("clients.count=4", "clients_per_actor=2", "teams.placement=own")
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "teams": ("permfl", TEAMS),
    "async clients": (
        "fedavg",
        (
            "clients.count=6",
            "clients_per_actor=3",
            "clients.mode=async",
            "clients.concurrency=4",
            "clients.buffer=2",
            "delays=pareto",
            "delays.server_links=shared",
            "delays.server_down_bytes_per_s=1e5",
        ),
    ),
    "learning agents": ("hapfl", ("clients.count=4", "clients_per_actor=4", "agents.policy=rllib")),
    "async clients and teams": (
        "permfl",
        (*TEAMS, "clients.mode=async", "teams.mode=async", "delays=pareto"),
    ),
    "large models": ("permfl", (*TEAMS, "model=mlp")),  # which processes of a machine lend each other
}
"""The method of each kind of run, and its words."""


def main() -> None:
    """Play kills drawn from a seed, case after case, and say for each run whether it ended as the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=5, help="kills of one run at most")
    parser.add_argument("--case", choices=list(CASES), help="runs of this kind alone")
    given = parser.parse_args()
    cases = [given.case] if given.case else list(CASES)
    rng, left, number = random.Random(given.seed), given.kills, 0
    with tempfile.TemporaryDirectory() as folder, three_nodes() as nodes:
        while left > 0:
            case = cases[number % len(cases)]
            kills = min(left, rng.randint(1, given.each))
            survive(nodes, Path(folder) / str(number), case, rng, kills)
            left, number = left - kills, number + 1


def survive(nodes: Cluster, folder: Path, case: str, rng: random.Random, kills: int) -> list[str]:
    """Play a run twice, undisturbed in this process and with kills on Ray, and compare all that is left of both."""
    method, words = CASES[case]
    folder.mkdir()
    victims = [victim for victim in VICTIMS if victim != "team server" or method == "permfl"]
    killer = Killer(nodes, schedule(rng, kills, victims))
    whole, metrics, _ = played(config_of(method, folder / "whole", *words, runtime="inprocess"), folder, None)
    began = time.perf_counter()
    prints, found, shown = played(config_of(method, folder / "killed", *words), folder, killer)
    print(
        f"{case}: {len(killer.done)} kills in {time.perf_counter() - began:.0f} s: {'; '.join(killer.done)}",
        flush=True,
    )
    assert len(killer.done) == kills, shown
    assert prints == whole, shown
    assert found == metrics, shown
    return killer.done


if __name__ == "__main__":
    main()
