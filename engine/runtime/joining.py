"""Joining a Ray cluster that runs already: its nodes are waited for, looked at, and sent the code that they lack."""

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import cast

import ray
from ray import ObjectRef
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from strata.engine.config.schema import RayConfig
from strata.engine.errors import ClusterError
from strata.engine.notify import Notify
from strata.engine.runtime.shipping import NEEDED, OWN, SAME, Found, lacking, look_around, parcel, unlike

POLL_S = 0.5
CONNECT_S = 5.0

# HTTP/2 (RFC 9113, 3.4 and 4.1): what a client says first, its own settings included, and how a frame begins.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
FRAME_HEADER, TYPE, SETTINGS = 9, 3, b"\x04"


def join(config: RayConfig, packages: Sequence[str], notify: Notify) -> None:
    """Join the cluster at ``config.address``; its nodes have the same code as this process afterwards.

    Args:
        config: where the cluster is, how many nodes to wait for, and how long.
        packages: top-level packages and modules, beside Strata, that actors import.
        notify: told what was sent, and to whom.

    Raises:
        ClusterError: when there is no such cluster, when too few nodes join it in time, when a node does not answer or
            has another Python or other packages, or when the code is too large to be sent.
    """
    _require_listener(config.address)
    _init(config.address)
    try:
        await_nodes(config)
        missing = look_at_nodes(packages, config.start_timeout_s)
        _send(config.address, missing, notify)
    except BaseException:
        ray.shutdown()
        raise


def await_nodes(config: RayConfig) -> None:
    """Wait until the cluster that this process is connected to has ``config.nodes`` nodes.

    Raises:
        ClusterError: when they are too few after ``config.start_timeout_s`` wall seconds, with who is there.
    """
    end = time.monotonic() + config.start_timeout_s
    while len(there := living_nodes()) < config.nodes:
        if time.monotonic() > end:
            raise ClusterError(
                f"ray.nodes={config.nodes}: {len(there)} joined within {config.start_timeout_s:g} s: "
                f"{', '.join(there.values())}. See why the others do not start (their `ray start` says it), raise "
                "ray.start_timeout_s, or lower ray.nodes."
            )
        time.sleep(POLL_S)


def living_nodes() -> dict[str, str]:
    """The cluster's living nodes by Ray's id: each with its name and address, for people."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in alive}


def look_at_nodes(packages: Sequence[str], timeout_s: float) -> list[str]:
    """Have every node say what it has; returns the packages and modules whose code some node lacks.

    Raises:
        ClusterError: naming each node that does not answer within ``timeout_s`` wall seconds, or that has another
            Python or other packages than this process, with what it has and what was expected.
    """
    names, look = living_nodes(), look_around()
    wanted = (*SAME, *NEEDED), (*OWN, *packages)
    here = look(*wanted)
    refs = {node: _asked(node, look, *wanted) for node in names}
    ray.wait(list(refs.values()), num_returns=len(refs), timeout=timeout_s)
    answers = {node: _answer(ref, timeout_s) for node, ref in refs.items()}
    found = {node: answer for node, answer in answers.items() if not isinstance(answer, str)}
    said = {node: [answer] for node, answer in answers.items() if isinstance(answer, str)}
    said |= {node: phrases for node, there in found.items() if (phrases := unlike(here, there))}
    _refuse({names[node]: phrases for node, phrases in said.items()})
    return lacking(here, found)


def _asked(node: str, look: object, *wanted: Sequence[str]) -> ObjectRef[Found]:
    affinity = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(look)  # type: ignore[call-overload]
    ref = task.options(num_cpus=0, scheduling_strategy=affinity, max_retries=0).remote(*wanted)
    return cast("ObjectRef[Found]", ref)


def _answer(ref: "ObjectRef[Found]", timeout_s: float) -> Found | str:
    """What a node said; a phrase where it said nothing in time, or its process died."""
    ready, _ = ray.wait([ref], timeout=0)
    if not ready:
        return f"no answer within {timeout_s:g} s: a Python process does not start there"
    try:
        return ray.get(ref)
    except RayError as error:  # the last line is what was raised there
        return f"no answer: {str(error).strip().splitlines()[-1]}"


def _refuse(said: Mapping[str, Sequence[str]]) -> None:
    if said:
        nodes = "; ".join(f"node {name}: {', '.join(phrases)}" for name, phrases in said.items())
        raise ClusterError(
            f"{nodes}. All nodes need the Python and the packages of the machine that starts the run, or results would "
            "depend on where a client is trained: install those of constraints.txt there, or give all one image."
        )


def _send(address: str, missing: Sequence[str], notify: Notify) -> None:
    """Join again with the code of ``missing`` in Ray's ``runtime_env``, which can only be set while joining."""
    if not missing:
        notify(f"ray.address={address}: all {len(living_nodes())} nodes have the code; none is sent")
        return
    with parcel(missing) as sent:
        ray.shutdown()
        _init(address, {"py_modules": list(sent.paths)})
    notify(f"ray.address={address}: sent the code of {', '.join(missing)} to the nodes, {sent.size_bytes:,} bytes")


def _init(address: str, runtime_env: Mapping[str, object] | None = None) -> None:
    try:
        env = None if runtime_env is None else dict(runtime_env)
        ray.init(address=address, runtime_env=env, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise _refused(address, error) from None


def _refused(address: str, error: Exception) -> ClusterError:
    said = " ".join(str(error).split()).rstrip(".")
    if "ersion mismatch" in said:
        return ClusterError(
            f"ray.address={address}: {said}. This machine and the cluster need one Python and one version of Ray: "
            "install those of the cluster here, or start the run on one of its nodes."
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]  # some errors of Ray are without a word
    return ClusterError(
        f"ray.address={address}: no Ray cluster answers there: {lines[0].rstrip('.')}. Start one with `ray start "
        "--head`, give this machine its token (~/.ray/auth_token, or RAY_AUTH_TOKEN), or leave ray.address empty for a "
        "local Ray."
    )


def _require_listener(address: str) -> None:
    # Ray itself keeps trying a dead address, or one at which something else listens, for many minutes.
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S) as link:
                _greet(link)
        except (OSError, OverflowError) as error:  # the latter for a port beyond 65535
            raise _refused(address, error) from None


def _greet(link: socket.socket) -> None:
    """Check that who listens speaks HTTP/2, as all servers of Ray do: their first frame is one of settings."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":  # what is said in clear text is not answered then
        return
    link.sendall(PREFACE)
    try:
        said = link.recv(FRAME_HEADER, socket.MSG_WAITALL)
    except TimeoutError:
        raise TimeoutError(f"something listens there, and has said nothing within {CONNECT_S:g} s") from None
    if said[TYPE : TYPE + 1] != SETTINGS:
        raise ConnectionError(f"what listens there is no Ray: it answers {said!r}")
