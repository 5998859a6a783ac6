"""A local Ray: what it starts, and what it does not."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from ray import _raylet
from ray._private import services
from ray._private.node import Node

from strata.engine.federation import Federation
from strata.engine.runtime import local_ray
from tests.bench.processes import family
from tests.helpers.small import small


def commands():
    """The command lines of this process's descendants."""
    lines = []
    for pid in family(os.getpid()):
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return " ".join(lines)


BEGIN = services.start_ray_process


def test_ray_still_has_what_is_left_out():
    assert set(local_ray.WHOLE) == set(local_ray.NEEDLESS)
    assert all(hasattr(_raylet, name) for name in (*local_ray.NO_PORTS, local_ray.PORT))


def stand_in(code, *arguments):
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", code, *arguments], stdin=subprocess.PIPE)


def told(path):
    """What is in a file as soon as it is there."""
    while not path.exists():
        time.sleep(0.01)
    return path.read_text()


def test_a_stand_in_says_what_an_agent_without_ports_says_and_ends_with_its_raylet(tmp_path):
    _raylet.persist_port(str(tmp_path), "ab" * 28, "theirs", -1)
    (theirs,) = tmp_path.iterdir()
    with stand_in(local_ray.WITHOUT, str(tmp_path / "ours")) as process:
        assert told(tmp_path / "ours") == theirs.read_text()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize("asked", [False, True])
def test_a_stand_in_is_the_agent_once_it_is_asked(tmp_path, asked):
    agent = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    made, said = tmp_path / "made", tmp_path / "port"
    with stand_in(local_ray.ONCE_ASKED, str(said), sys.executable, "-c", agent, str(made)) as process:
        port = told(said)
        if asked:
            socket.create_connection(("127.0.0.1", int(port))).close()
        else:
            process.stdin.close()
        assert process.wait(20) == 0
    assert made.exists() is asked
    assert not asked or made.read_text() == f"--runtime-env-agent-port={port}"


def test_no_other_process_of_ray_has_stand_ins(monkeypatch):
    seen = []
    monkeypatch.setattr(services, "start_ray_process", lambda command, kind: seen.append(command))
    with local_ray.without_agents():
        services.start_ray_process(["gcs_server", "--session_dir=/s", "--node_id=n"], "gcs")
    assert seen == [["gcs_server", "--session_dir=/s", "--node_id=n"]]


@pytest.mark.slow
def test_a_local_ray_has_no_dashboard_no_autoscaler_no_log_monitor_and_no_agents_and_trains_all_the_same():
    local_ray.start(1, 0)
    try:
        running = commands()
        task = ray.remote(lambda: os.environ.get("WANTED"))
        assert ray.get(task.remote()) is None
        assert ray.get(task.options(runtime_env={"env_vars": {"WANTED": "1"}}).remote()) == "1"
        assert ray.cluster_resources()["CPU"] == 1
    finally:
        ray.shutdown()
    assert "raylet" in running
    for name in ("monitor.py", "log_monitor.py", "dashboard.py", "dashboard/agent.py"):
        assert name not in running
    assert all(code.strip() in running for code in (local_ray.WITHOUT, local_ray.ONCE_ASKED))
    assert services.start_ray_process is BEGIN
    assert {name: getattr(Node, name) for name in local_ray.NEEDLESS} == local_ray.WHOLE


def test_an_error_leaves_ray_as_it_was(monkeypatch):
    def refuses(**options):
        raise ValueError("no such resource")

    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(ValueError, match="no such resource"):
        local_ray.start(1, 0)
    assert services.start_ray_process is BEGIN
    assert {name: getattr(Node, name) for name in local_ray.NEEDLESS} == local_ray.WHOLE


@pytest.mark.slow
@pytest.mark.exhaustive
def test_federations_of_one_process_share_a_local_ray_until_the_last_is_closed():
    words = ("clients_per_actor=8", "ray.num_cpus=4", "rounds=3")
    here = Federation(small("fedavg", *words, runtime="inprocess"))
    expected = [record.scores["GM"] for record in here]
    first = Federation(small("fedavg", *words, runtime="ray"))
    second = Federation(small("fedavg", *words, runtime="ray"))
    seen = [first.run_round().scores["GM"], second.run_round().scores["GM"]]
    first.close()
    assert ray.is_initialized()
    assert [*seen[1:], *(record.scores["GM"] for record in second)] == expected
    assert seen[0] == expected[0]
    second.close()
    assert not ray.is_initialized()
