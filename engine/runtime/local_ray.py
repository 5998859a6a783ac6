"""A local Ray without the processes that no run needs."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private.node import Node

NEEDLESS = ("start_monitor", "start_log_monitor", "start_api_server")
"""What Ray's head node starts for clusters that grow, drivers that show their workers' output, and the dashboard."""
FOR_THE_DRIVER = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGXCPU") if hasattr(signal, name)]
"""Signals that a whole group of processes is sent, and after which the driver still finishes its round on Ray."""

WHOLE = {name: getattr(Node, name) for name in NEEDLESS if hasattr(Node, name)}


def start(cpus: int, gpus: int) -> None:
    """Start a local Ray; ``cpus`` and ``gpus`` it may use, 0: those found.

    Raises:
        Exception: what :func:`ray.init` raises.
    """
    with lean(), _deaf():
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=cpus or None,
            num_gpus=gpus or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


def abandon() -> None:
    """End the processes of the local Ray, whose head does not answer any more, within seconds."""
    node = ray._private.worker._global_node
    if node is None:
        return
    raylets = [process.process.pid for process in node.all_processes.get("raylet", [])]
    agents = [child for raylet in raylets for child in _children(raylet)]
    node.kill_all_processes(check_alive=False, allow_graceful=True)
    for agent in agents:  # which wait for the head, and not for the raylet that started them
        with suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)


def _children(process: int) -> list[int]:
    """The processes that a process has started, where the system says so in files."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started meanwhile ignore :data:`FOR_THE_DRIVER`, also after they have started others."""
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in FOR_THE_DRIVER}
    except ValueError:  # not the main thread, which alone may say so
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def lean() -> Iterator[None]:
    """Ray starts none of :data:`NEEDLESS` meanwhile, for which it has no setting: three Python processes, 160 MB.

    A Ray that names them otherwise starts them, as it would without this.
    """
    for name in WHOLE:
        setattr(Node, name, _nothing)
    try:
        yield
    finally:
        for name, begin in WHOLE.items():
            setattr(Node, name, begin)


def _nothing(node: Node, **settings: object) -> None:
    """Stands for what is not started."""
