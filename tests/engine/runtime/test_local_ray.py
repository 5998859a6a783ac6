"""A local Ray: how it begins, for whom, and how it ends."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import ray

from strata.engine.errors import ResourceError
from strata.engine.federation import Federation
from strata.engine.runtime import local_ray
from tests.bench.processes import command_lines
from tests.helpers.small import small


@pytest.mark.slow
def test_a_ray_that_has_begun_is_the_one_that_is_started_and_lives_on():
    local_ray.begin(2, 0)
    try:
        local_ray.start(2, 0)
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
        assert ray.cluster_resources()["CPU"] == 2
        local_ray.begin(1, 0)  # there is one
        local_ray.forget()  # somebody asked for it
        assert ray.cluster_resources()["CPU"] == 2
        before = command_lines().count("raylet_socket_name")
    finally:
        ray.shutdown()
    assert before == 1


@pytest.mark.slow
def test_a_ray_that_has_begun_otherwise_or_for_nobody_ends():
    local_ray.begin(1, 0)
    local_ray.forget()
    assert not ray.is_initialized()
    assert "raylet" not in command_lines()
    local_ray.begin(1, 0)
    local_ray.start(2, 0)
    try:
        assert ray.cluster_resources()["CPU"] == 2
        assert command_lines().count("raylet_socket_name") == 1
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_process_that_is_ended_ends_the_ray_that_began_beside_it():
    code = """
        import os, signal, sys
        from strata.engine.runtime import local_ray
        from tests.bench.processes import family
        local_ray.begin(1, 0)
        local_ray.start(1, 0)
        print(*family(os.getpid()), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == signal.SIGTERM
    started = [Path(f"/proc/{pid}") for pid in ended.stdout.split()]
    assert len(started) > 4
    until = time.monotonic() + 10  # whoever was told to end has done so
    while (left := [pid.name for pid in started if pid.exists()]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def test_what_a_start_beside_has_raised_is_raised_by_who_waits_for_it(monkeypatch):
    def refuses(**options):
        raise ValueError("no such resource")

    monkeypatch.setattr(ray, "init", refuses)
    local_ray.begin(1, 0)
    with pytest.raises(ValueError, match="no such resource"):
        local_ray.start(1, 0)
    local_ray.begin(1, 0)
    local_ray.forget()  # which nobody wants to hear of


@pytest.mark.slow
def test_an_open_federation_is_named_where_its_actors_are_in_the_way_and_a_forgotten_one_gives_them_back():
    config = small("fedavg", "ray.num_cpus=1", runtime="ray")
    open_one = Federation(config)
    with pytest.raises(ResourceError, match=r"^1 federation of this process is still open, with 1 CPU: close it first"):
        Federation(config)
    assert open_one.run_round().round == 1
    del open_one
    gc.collect()
    assert not ray.is_initialized()


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


def test_ray_counts_the_cores_that_this_process_was_given():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})  # as taskset -c 0 does
        assert local_ray.own_cores() == (1 if len(allowed) > 1 else None)
    finally:
        os.sched_setaffinity(0, allowed)
    if len(allowed) == os.cpu_count():
        assert local_ray.own_cores() is None  # Ray knows of containers what affinity does not say


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TMPDIR": "/var/tmp"}, None),
        ({"TMPDIR": "/scratch/" + "job" * 20}, "/tmp/ray"),
        ({"RAY_TMPDIR": "/tmp", "TMPDIR": "/scratch/" + "job" * 20}, None),
    ],
)
def test_sockets_lie_where_their_paths_are_short_enough(monkeypatch, environment, expected):
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert local_ray.temporary_folder() == expected


def test_a_folder_that_was_asked_for_and_is_too_long_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/" + "job" * 20)
    with pytest.raises(OSError, match=r"RAY_TMPDIR=/scratch/\S+ has 69 letters, .* expected at most 3\d, such as"):
        local_ray.temporary_folder()
