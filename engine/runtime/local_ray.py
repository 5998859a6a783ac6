"""A local Ray without the processes that no run needs."""

import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import services
from ray._private.node import Node

NEEDLESS = ("start_monitor", "start_log_monitor", "start_api_server")
"""What Ray's head node starts for clusters that grow, drivers that show their workers' output, and the dashboard."""
FOR_THE_DRIVER = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGXCPU") if hasattr(signal, name)]
"""Signals that a whole group of processes is sent, and after which the driver still finishes its round on Ray."""

METRICS_AGENT, PACKAGES_AGENT = "--dashboard_agent_command", "--runtime_env_agent_command"
"""How a raylet is told to start its agents: for metrics and jobs, and for tasks that want packages of their own."""

NO_PORTS = ("METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME")
PORT = "RUNTIME_ENV_AGENT_PORT_NAME"
"""Ray's names for the files in which the agents say what ports they have."""

SAY = """
import os, pathlib, select, socket, sys
def say(path, port):  # at once, for the raylet does not wait for what is in the file
    written = pathlib.Path(path + ".partial")
    written.write_text(str(port))
    written.replace(path)
"""

WITHOUT = f"""{SAY}
for path in sys.argv[1:]:
    say(path, -1)
sys.stdin.read()
"""
"""Stands for an agent of which nothing is wanted: it says that it has no ports, and ends with its raylet."""

ONCE_ASKED = f"""{SAY}
path, *agent = sys.argv[1:]
with socket.create_server(("", 0)) as server:
    port = server.getsockname()[1]
    say(path, port)
    asked = server in select.select([server, sys.stdin], [], [])[0]
if asked:
    os.execv(agent[0], [*agent, "--runtime-env-agent-port=%d" % port])
"""
"""Stands for an agent until it is asked something, and is that agent then, whom the raylet asks again."""

WHOLE = {name: getattr(Node, name) for name in NEEDLESS if hasattr(Node, name)}


def start(cpus: int, gpus: int) -> None:
    """Start a local Ray; ``cpus`` and ``gpus`` it may use, 0: those found.

    Raises:
        Exception: what :func:`ray.init` raises.
    """
    with lean(), without_agents(), _deaf():
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


@contextmanager
def without_agents() -> Iterator[None]:
    """Raylets that are started meanwhile have stand-ins for their agents, which take a second and 50 MB each.

    A raylet waits for them before it takes any work, and no run needs them. A Ray that names them otherwise starts
    them.
    """
    begin = services.start_ray_process

    def started(command: Sequence[str], *rest: Any, **settings: Any) -> object:
        return begin(_with_stand_ins(command), *rest, **settings)

    services.start_ray_process = started
    try:
        yield
    finally:
        services.start_ray_process = begin


def _with_stand_ins(command: Sequence[str]) -> list[str]:
    """The command that starts a raylet without its agents; that of another of Ray's processes as it is."""
    said = dict(word.split("=", 1) for word in command if "=" in word)
    if not {METRICS_AGENT, PACKAGES_AGENT, "--session_dir", "--node_id"} <= said.keys():
        return list(command)
    if not all(hasattr(_raylet, name) for name in (*NO_PORTS, PORT)):  # they are told by the raylet, and not asked
        return list(command)
    *none, one = [f"{said['--session_dir']}/{getattr(_raylet, n)}_{said['--node_id']}" for n in (*NO_PORTS, PORT)]
    python = [sys.executable, "-I", "-S", "-c"]
    stand_ins = {
        METRICS_AGENT: [*python, WITHOUT.strip(), *none],
        PACKAGES_AGENT: [*python, ONCE_ASKED.strip(), one, *shlex.split(said[PACKAGES_AGENT])],
    }
    changed = {f"{flag}={said[flag]}": f"{flag}={subprocess.list2cmdline(own)}" for flag, own in stand_ins.items()}
    return [changed.get(word, word) for word in command]


def _nothing(node: Node, **settings: object) -> None:
    """Stands for what is not started."""
