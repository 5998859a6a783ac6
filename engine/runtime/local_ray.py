"""A local Ray without the processes that no run needs."""

import atexit
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import services, utils
from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_RAYLET

NEEDLESS = ("start_monitor", "start_log_monitor", "start_api_server")
"""What Ray's head node starts for clusters that grow, drivers that show their workers' output, and the dashboard."""
FOR_THE_DRIVER = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGXCPU") if hasattr(signal, name)]
"""Signals that a whole group of processes is sent, and after which the driver still finishes its round on Ray."""

WHOLE = [name for name in NEEDLESS if hasattr(Node, name)]

DEPENDENCIES = "get_dashboard_dependency_error"
"""By what Ray tells whether the dashboard's packages are there; it imports them, and its agent then loads them all."""

AGENT = "--dashboard_agent_command="
"""With what a raylet is told how to start the dashboard's agent, without which it does not run."""

PORTS = ("METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME")
"""What a raylet waits for the agent to write down; -1: there is no such port."""

PIPED = "RAY_enable_pipe_based_agent_to_parent_health_check"
"""By what Ray is told to do without the pipe through which the agent sees the raylet end."""


SOCKET_LETTERS = 103
"""How long the path of a socket may be: systems take 104 to 108 bytes, of which the last is a zero."""

BELOW = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.10")
"""What Ray puts behind its folder for temporary files, at most."""

SHORT = "/tmp"


def begin(cpus: int, gpus: int) -> None:
    """Begin to start a local Ray, for which :func:`start` then waits; one that nobody has asked for ends with Python.

    Nothing happens where one has begun, or is there.
    """
    global _begun
    if _begun is None and not ray.is_initialized():
        with suppress(ValueError):  # not the main thread, which alone may say so, as Ray itself does where it is that
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        _begun = _Beginning(cpus, gpus)
        atexit.register(forget)


def has_begun() -> bool:
    """Whether a local Ray has begun that nobody has asked for yet."""
    return _begun is not None


def start(cpus: int, gpus: int) -> None:
    """Start a local Ray; ``cpus`` and ``gpus`` it may use, 0: those found.

    Raises:
        Exception: what :func:`ray.init` raises; OSError where sockets would have too long a path.
    """
    global _begun
    if _begun is not None and _begun.asked != (cpus, gpus):
        forget()
    if _begun is None:
        _start(cpus, gpus)
        return
    error = _begun.error()
    _begun = None
    if error is not None:
        raise error


def forget() -> None:
    """End the local Ray that has begun, if nobody has asked for it."""
    global _begun
    if _begun is not None:
        with suppress(KeyboardInterrupt):  # who is in a hurry need not wait until it is there
            _begun.error()
        _begun = None
        ray.shutdown()


class _Beginning:
    """A local Ray that starts in a thread of its own, while this one does something else."""

    def __init__(self, cpus: int, gpus: int) -> None:
        self.asked = cpus, gpus
        self._error: BaseException | None = None
        self._over = threading.Event()
        threading.Thread(target=self._run, name="local Ray", daemon=True).start()

    def error(self) -> BaseException | None:
        """What its start has raised; None: it is there. Waits until either is so."""
        self._over.wait()
        return self._error

    def _run(self) -> None:
        try:
            _start(*self.asked)
        except BaseException as error:  # it is raised where it is waited for
            self._error = error
        self._over.set()
        threading.Event().wait()  # Linux ends Ray's processes together with the thread that started them


_begun: _Beginning | None = None


def _start(cpus: int, gpus: int) -> None:
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
    return cores if cores < utils.get_num_cpus() else None


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
    """Processes that this thread starts meanwhile are not told of :data:`FOR_THE_DRIVER`, nor those that they start."""
    if not hasattr(signal, "pthread_sigmask"):  # nor has the system these signals
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_DRIVER)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def lean() -> Iterator[None]:
    """Ray starts none of :data:`NEEDLESS` meanwhile, for which it has no setting: three Python processes, 160 MB.

    The dashboard's agent, on which a raylet insists, is a process that waits for the raylet's end, without Python: 60
    MB and a second of a core. A Ray that names these otherwise starts them, as it would without this.
    """
    stands_in: list[tuple[object, str, object]] = [(Node, name, _nothing) for name in WHOLE]
    stands_in += [(utils, DEPENDENCIES, _no_dashboard)] if hasattr(utils, DEPENDENCIES) else []
    stands_in += [(services, "start_ray_process", _without_agent)] if _agent_can_be_left_out() else []
    before = [getattr(home, name) for home, name, _ in stands_in]
    for home, name, other in stands_in:
        setattr(home, name, other)
    try:
        yield
    finally:
        for (home, name, _), own in zip(stands_in, before, strict=True):
            setattr(home, name, own)


_start_process = services.start_ray_process
_persist_port: Callable[..., None] | None = getattr(_raylet, "persist_port", None)


def _agent_can_be_left_out() -> bool:
    """Whether this Ray's raylets read what the dashboard's agent has to say from files, and hold a pipe to it."""
    known = _persist_port is not None and all(hasattr(_raylet, name) for name in PORTS)
    return known and PIPED not in os.environ and shutil.which("cat") is not None


def _without_agent(command: list[str], process_type: str, *others: Any, **settings: Any) -> object:
    """Stands for the start of one of Ray's processes: a raylet has ``cat`` for the dashboard's agent."""
    if process_type == PROCESS_TYPE_RAYLET and _persist_port is not None:
        said = dict(word.split("=", 1) for word in command if "=" in word)
        for name in PORTS:
            _persist_port(said["--session_dir"], said["--node_id"], getattr(_raylet, name), -1)
        command = [f"{AGENT}{shutil.which('cat')}" if word.startswith(AGENT) else word for word in command]
    return _start_process(command, process_type, *others, **settings)


def _no_dashboard() -> ImportError:
    """Stands for a look at which of the dashboard's packages there are."""
    return ImportError("no dashboard is asked for")


def _nothing(node: Node, **settings: object) -> None:
    """Stands for what is not started."""
