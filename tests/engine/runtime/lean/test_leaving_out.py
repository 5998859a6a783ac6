"""What a local Ray starts, and what it does not."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import ray
from packaging.version import Version
from ray._private import services, utils
from ray._private.node import Node

from strata.engine.runtime import local_ray
from strata.engine.runtime.lean import leaving_out, until_called
from tests.bench.processes import command_line, command_lines, family

DASHBOARD, ENVIRONMENTS = str(shutil.which("cat")), str(Path(until_called.__file__))  # what stands for these agents


def heard(pid, number):
    """Whether a signal of this number reaches a process."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    deaf_to = int(told["SigBlk"], 16) | int(told["SigIgn"], 16)
    return not deaf_to >> (number - 1) & 1


def left_out():
    asked = [getattr(utils, leaving_out.DEPENDENCIES), services.start_ray_process]
    return [getattr(Node, name) for name in leaving_out.NEEDLESS] + asked


OWN = left_out()
OLDER = Version(ray.__version__) < Version("2.60")  # raylets that are told their agents' ports otherwise
needs_files = pytest.mark.skipif(OLDER, reason="the agents of older versions of Ray are not left out")


def test_ray_still_has_what_is_left_out():
    assert tuple(leaving_out.WHOLE) == leaving_out.NEEDLESS
    assert leaving_out._agents_can_be_left_out() or OLDER
    assert isinstance(utils.get_dashboard_dependency_error(), ImportError | None)


@pytest.mark.slow
def test_a_local_ray_has_no_dashboard_no_autoscaler_and_no_log_monitor_and_trains_all_the_same(monkeypatch):
    looked = []
    monkeypatch.setattr(utils, leaving_out.DEPENDENCIES, lambda: looked.append("the dashboard's packages"))
    own = [heard(os.getpid(), number) for number in local_ray.FOR_THE_DRIVER]
    local_ray.start(1, 0)
    try:
        running = command_lines()
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
        assert ray.cluster_resources()["CPU"] == 1
        of_ray = family(os.getpid()) - {os.getpid()}
        assert len(of_ray) > 3
        assert not [pid for pid in of_ray for number in local_ray.FOR_THE_DRIVER if heard(pid, number)]
        assert [heard(os.getpid(), number) for number in local_ray.FOR_THE_DRIVER] == own
    finally:
        ray.shutdown()
    assert "raylet" in running
    agents = [] if OLDER else ["DashboardAgent", "RuntimeEnvAgent"]
    for name in ("monitor.py", "log_monitor.py", "dashboard.py", *agents):
        assert name not in running
    for name in (DASHBOARD, ENVIRONMENTS):
        assert name in running or OLDER
    assert not looked
    monkeypatch.undo()
    assert left_out() == OWN


@pytest.mark.slow
def test_where_agents_cannot_be_left_out_the_dashboards_does_without_its_packages(monkeypatch):
    monkeypatch.setenv(leaving_out.PIPED, "false")
    local_ray.start(1, 0)
    try:
        running = command_lines()
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
    finally:
        ray.shutdown()
    assert DASHBOARD not in running
    assert ENVIRONMENTS not in running
    assert "--minimal" in running  # the dashboard's agent


def test_an_error_leaves_ray_as_it_was(monkeypatch):
    def refuses(**options):
        raise ValueError("no such resource")

    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(ValueError, match="no such resource"):
        local_ray.start(1, 0)
    assert left_out() == OWN


def agents():
    """The processes that the raylet has for its agents."""
    raylet = ray._private.worker._global_node.all_processes["raylet"][0].process.pid
    started = map(int, Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split())
    return raylet, [pid for pid in started if any(name in command_line(pid) for name in (DASHBOARD, ENVIRONMENTS))]


@needs_files
@pytest.mark.slow
def test_what_stands_for_the_agents_ends_when_the_raylet_is_killed():
    local_ray.start(1, 0)
    try:
        raylet, stand_ins = agents()
        os.kill(raylet, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(map(command_line, stand_ins)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        local_ray.abandon()
        ray.shutdown()
    assert len(stand_ins) == 2
    assert not any(map(command_line, stand_ins))


@needs_files
@pytest.mark.slow
def test_the_agent_of_environments_is_there_once_a_task_asks_for_one():
    local_ray.start(1, 0)
    try:
        _, stand_ins = agents()
        task = ray.remote(lambda: os.environ.get("OF_ITS_OWN"))
        assert ray.get(task.remote()) is None
        found = [ray.get(task.options(runtime_env={"env_vars": {"OF_ITS_OWN": value}}).remote()) for value in "ab"]
        after = list(map(command_line, stand_ins))
    finally:
        ray.shutdown()
    assert found == ["a", "b"]
    assert [ENVIRONMENTS in line for line in after] == [False, False]
    assert sum("RuntimeEnvAgent" in line for line in after) == 1  # the same process
