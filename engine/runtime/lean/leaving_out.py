"""Ray's processes are started without those that no run needs.

Ray has no settings for any of this. What a version of it names otherwise is started as it would be without this.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path
from typing import Any

from ray import _raylet
from ray._private import services, utils
from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_RAYLET

from strata.engine.runtime.lean import until_called

NEEDLESS = ("start_monitor", "start_log_monitor", "start_api_server")
"""What Ray's head node starts for clusters that grow, drivers that show their workers' output, and the dashboard."""

DEPENDENCIES = "get_dashboard_dependency_error"
"""By what Ray tells whether the dashboard's packages are there; it imports them, and its agent then loads them all."""

DASHBOARD, ENVIRONMENTS = "--dashboard_agent_command=", "--runtime_env_agent_command="
"""With what a raylet is told how to start the agents without which it does not run: of the dashboard, and of the
environments that tasks ask for."""

PORTS = ("METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME")
"""What a raylet waits for the dashboard's agent to write down; -1: there is no such port."""

PORT = "RUNTIME_ENV_AGENT_PORT_NAME"
"""What it waits for the other agent to write down."""

PIPED = "RAY_enable_pipe_based_agent_to_parent_health_check"
"""By what Ray is told to do without the pipes through which agents see the raylet end."""

WHOLE = [name for name in NEEDLESS if hasattr(Node, name)]

_start_process = services.start_ray_process
_persist_port: Callable[..., None] | None = getattr(_raylet, "persist_port", None)


@contextmanager
def lean() -> Iterator[None]:
    """Ray starts none of :data:`NEEDLESS` meanwhile: three Python processes, 160 MB.

    Nor the two agents on which a raylet insists: 100 MB, and two seconds of a core. A process without Python waits for
    the raylet's end in place of the dashboard's, and a small one in place of the other until that is called.
    """
    stands_in: list[tuple[object, str, object]] = [(Node, name, _nothing) for name in WHOLE]
    stands_in += [(utils, DEPENDENCIES, _no_dashboard)] if hasattr(utils, DEPENDENCIES) else []
    stands_in += [(services, "start_ray_process", _without_agents)] if _agents_can_be_left_out() else []
    before = [getattr(home, name) for home, name, _ in stands_in]
    for home, name, other in stands_in:
        setattr(home, name, other)
    try:
        yield
    finally:
        for (home, name, _), own in zip(stands_in, before, strict=True):
            setattr(home, name, own)


def _agents_can_be_left_out() -> bool:
    """Whether this Ray's raylets read their agents' ports from files, and hold pipes to them."""
    known = _persist_port is not None and all(hasattr(_raylet, name) for name in (*PORTS, PORT))
    return known and PIPED not in environ and shutil.which("cat") is not None


def _without_agents(command: list[str], process_type: str, *others: Any, **settings: Any) -> object:
    """Stands for the start of one of Ray's processes: a raylet has others for its agents."""
    if process_type == PROCESS_TYPE_RAYLET and _persist_port is not None:
        said = dict(word.split("=", 1) for word in command if "=" in word)
        folder, node = said["--session_dir"], said["--node_id"]
        for name in PORTS:
            _persist_port(folder, node, getattr(_raylet, name), -1)
        command = [f"{DASHBOARD}{shutil.which('cat')}" if word.startswith(DASHBOARD) else word for word in command]
        written = Path(folder) / f"{getattr(_raylet, PORT)}_{node}"
        if written.with_name(f"{getattr(_raylet, PORTS[0])}_{node}").is_file():  # where this Ray writes them down
            command = [_until_called(word, said["--node_ip_address"], written) for word in command]
    return _start_process(command, process_type, *others, **settings)


def _until_called(word: str, address: str, written: Path) -> str:
    """A raylet's word for its agent of environments, which is started only once it is called; other words as they are.

    Args:
        word: of the raylet's command.
        address: of the node, where the agent listens.
        written: the file in which the raylet looks for its port.
    """
    if not word.startswith(ENVIRONMENTS):
        return word
    own = [sys.executable, "-I", "-S", until_called.__file__, address, str(written)]
    return f"{ENVIRONMENTS}{subprocess.list2cmdline(own)} {word.removeprefix(ENVIRONMENTS)}"


def _no_dashboard() -> ImportError:
    """Stands for a look at which of the dashboard's packages there are."""
    return ImportError("no dashboard is asked for")


def _nothing(node: Node, **settings: object) -> None:
    """Stands for what is not started."""
