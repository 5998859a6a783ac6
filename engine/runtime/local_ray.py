"""A local Ray without the processes that no run needs."""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private import utils

from strata.engine.runtime.lean.leaving_out import lean

FOR_THE_DRIVER = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGXCPU") if hasattr(signal, name)]
"""Signals that a whole group of processes is sent, and after which the driver still finishes its round on Ray."""

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
