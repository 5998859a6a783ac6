"""A local Ray without the processes that no run needs."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private.node import Node
from ray._private.utils import get_num_cpus

NEEDLESS = ("start_monitor", "start_log_monitor", "start_api_server")
"""What Ray's head node starts for clusters that grow, drivers that show their workers' output, and the dashboard."""
FOR_THE_DRIVER = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGXCPU") if hasattr(signal, name)]
"""Signals that a whole group of processes is sent, and after which the driver still finishes its round on Ray."""

WHOLE = {name: getattr(Node, name) for name in NEEDLESS if hasattr(Node, name)}


SOCKET_LETTERS = 103
"""How long the path of a socket may be: systems take 104 to 108 bytes, of which the last is a zero."""

BELOW = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.10")
"""What Ray puts behind its folder for temporary files, at most."""

SHORT = "/tmp"


def start(cpus: int, gpus: int) -> None:
    """Start a local Ray; ``cpus`` and ``gpus`` it may use, 0: those found.

    Raises:
        Exception: what :func:`ray.init` raises; OSError where sockets would have too long a path.
    """
    with lean(), _deaf():
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=cpus or own_cores(),
            num_gpus=gpus or None,
            _temp_dir=temporary_folder(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


def own_cores() -> int | None:
    """How many cores this process may use, where it was given some of the machine's; None: Ray counts them.

    Ray does not see what ``taskset`` and batch systems such as Slurm leave a process.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = len(os.sched_getaffinity(0))
    return cores if cores < get_num_cpus() else None


def temporary_folder() -> str | None:
    """Where Ray keeps temporary files, with its sockets; None: where it would by itself.

    Raises:
        OSError: where the folder that RAY_TMPDIR names is too long.
    """
    for name in ("RAY_TMPDIR", "TMPDIR"):
        place = os.environ.get(name, "")
        if not place:
            continue
        if len(os.fsencode(place)) + BELOW <= SOCKET_LETTERS:
            return None
        if name == "RAY_TMPDIR":
            raise OSError(
                f"RAY_TMPDIR={place} has {len(place)} letters, and the sockets that Ray makes below it may have "
                f"{SOCKET_LETTERS} with theirs: expected at most {SOCKET_LETTERS - BELOW}, such as RAY_TMPDIR={SHORT}."
            )
        return f"{SHORT}/ray"
    return None


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
