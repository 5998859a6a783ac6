"""The benchmark's end of a peer: its processes, and rounds one after the other when they are asked for."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from strata.engine.models.spec import ModelSpec
from tests.bench.processes import family, proportional_memory

ROOT = Path(__file__).parents[3]


def written(folder: Path, spec: ModelSpec, work: Mapping[str, object]) -> Path:
    """Write down what peers are to train, for :func:`tests.bench.peers.work.read`."""
    path = folder / "work.json"
    path.write_text(json.dumps({"model": [spec.name, spec.input_shape, spec.classes, spec.options], **work}))
    return path


@contextmanager
def pfl(python: str, work: Path, processes: int) -> Iterator[Callable[[int], float]]:
    """pfl-research with some processes; gives what makes rounds and tells the seconds of one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost"}
    common |= {"MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "bench", "PFL_PYTORCH_DEVICE": "cpu"}
    command = [python, "-m", "tests.bench.peers.pfl_worker", str(work)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    started = [_process(command, {**common, **rank}) for rank in ranks]
    with _ended(started):
        yield _rounds(started, "pfl-research")


@contextmanager
def flower(python: str, work: Path, processes: int) -> Iterator[Callable[[int], float]]:
    """Flower's simulation with so many cores; gives what makes rounds and tells the seconds of one."""
    command = [python, "-m", "tests.bench.peers.flower_worker", str(work), str(processes)]
    started = [_process(command, {"FLWR_TELEMETRY_ENABLED": "0", "RAY_DEDUP_LOGS": "0"})]
    with _ended(started):
        yield _rounds(started, "Flower")


def _process(command: list[str], own: Mapping[str, str]) -> "subprocess.Popen[str]":
    paths = os.pathsep.join([str(ROOT / "build" / "links"), str(ROOT)])
    surroundings = {**os.environ, **own, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=surroundings,
        cwd=ROOT,
    )


@contextmanager
def _ended(processes: "list[subprocess.Popen[str]]") -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _rounds(processes: "list[subprocess.Popen[str]]", name: str) -> Callable[[int], float]:
    began, first = time.perf_counter(), [True]

    def told() -> float:
        assert processes[0].stdout is not None
        for line in processes[0].stdout:
            if line.startswith("took "):
                return float(line.split()[1])
        raise RuntimeError(f"{name} ended; run its worker by hand to see why")

    def rounds(count: int) -> float:
        if first:
            told()  # it stands before its first round
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
        seconds = told()
        if first:
            first.clear()
            memory = sum(proportional_memory(pid) for process in processes for pid in family(process.pid))
            after = time.perf_counter() - began
            print(f"{name}: first rounds done after {after:.1f} s, {memory / 2**30:.2f} GiB", file=sys.stderr)
        return seconds

    return rounds
