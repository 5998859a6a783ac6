"""A local Ray: what it starts, and what it does not."""

import os
from pathlib import Path

import pytest
import ray
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


def test_ray_still_has_what_is_left_out():
    assert set(local_ray.WHOLE) == set(local_ray.NEEDLESS)


@pytest.mark.slow
def test_a_local_ray_has_no_dashboard_no_autoscaler_and_no_log_monitor_and_trains_all_the_same():
    local_ray.start(1, 0)
    try:
        running = commands()
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
        assert ray.cluster_resources()["CPU"] == 1
    finally:
        ray.shutdown()
    assert "raylet" in running
    for name in ("monitor.py", "log_monitor.py", "dashboard.py"):
        assert name not in running
    assert {name: getattr(Node, name) for name in local_ray.NEEDLESS} == local_ray.WHOLE


def test_an_error_leaves_ray_as_it_was(monkeypatch):
    def refuses(**options):
        raise ValueError("no such resource")

    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(ValueError, match="no such resource"):
        local_ray.start(1, 0)
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
