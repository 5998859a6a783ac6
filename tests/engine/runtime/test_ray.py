"""Closing a federation of actors, with Ray's own calls noted, and what is said of data: no Ray is started."""

import numpy as np
import pytest
import ray
from ray.exceptions import RayTaskError

from strata.engine.config.schema import RayConfig
from strata.engine.data.dataset import Dataset
from strata.engine.data.mapped import open_mapped
from strata.engine.errors import ActorStartError, ConfigError
from strata.engine.runtime import ray as runtime
from strata.engine.runtime.ray import RayRuntime, describe_data
from strata.engine.runtime.seats import Seat, Share
from tests.helpers.small import small


@pytest.fixture
def ray_calls(monkeypatch):
    """What Ray was asked for, in order; a kill would start a new Ray where there is none."""
    made, running = [], [True]
    monkeypatch.setattr(runtime, "_asked", ("", 2, 0))  # what a run of this process has started
    monkeypatch.setattr(ray, "is_initialized", lambda: running[0])
    monkeypatch.setattr(ray, "kill", lambda handle: made.append(handle if running[0] else "a new Ray"))
    monkeypatch.setattr(ray, "shutdown", lambda: made.append("shutdown") or running.__setitem__(0, False))
    return made


def closing(owns_ray):
    made = object.__new__(RayRuntime)
    made.handles, made._places, made._owns_ray, made._lost = ["a", "b"], [], owns_ray, False
    return made


def test_closing_again_does_nothing(ray_calls):
    mine = closing(True)
    mine.close()
    assert sorted(ray_calls[:2]) == ["a", "b"]
    mine.close()
    assert ray_calls[2:] == ["shutdown"]


def test_closing_after_rays_end_starts_no_new_one(ray_calls):
    guest = closing(False)
    closing(True).close()  # whose Ray it was
    ray_calls.clear()
    guest.close()
    assert ray_calls == []


def test_a_federation_that_is_found_forgotten_while_another_starts_ends_no_ray(ray_calls, monkeypatch):
    forgotten, made = closing(True), closing(True)
    made.started = {}
    monkeypatch.setattr(runtime, "_OPEN", {forgotten})

    def started(*arguments):
        forgotten.close()
        runtime._OPEN.add(made)  # as a runtime does once its actors are there
        return made

    monkeypatch.setattr(runtime, "connect", lambda *arguments: True)
    monkeypatch.setattr(runtime, "_seats", lambda *arguments: [Seat("client", Share(1, 0), "a", (0,))])
    monkeypatch.setattr(runtime, "RayRuntime", started)
    assert runtime.start(small("fedavg", runtime="ray"), None, [], lambda text: None) is made
    assert sorted(ray_calls) == ["a", "b"]


def test_a_local_ray_that_has_begun_ends_before_a_cluster_is_joined(ray_calls, monkeypatch):
    done = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(runtime, "_asked", None)
    monkeypatch.setattr(runtime.local_ray, "forget", lambda: done.append("forgotten"))
    monkeypatch.setattr(runtime, "join", lambda *arguments: done.append("joined"))
    assert runtime.connect(RayConfig(address="10.0.0.1:6379"), ["mine"], lambda text: None)
    assert done == ["forgotten", "joined"]


def test_how_data_reach_nodes_is_said_with_bytes(tmp_path):
    x, y = np.zeros((5, 3), np.float32), np.zeros(5, np.int64)
    assert (
        describe_data(Dataset("made", x, y, 2), 3) == "100 bytes went through the object store, once to each of 3 nodes"
    )
    np.save(tmp_path / "X.npy", x)
    lies = open_mapped(tmp_path / "X.npy")
    said = describe_data(Dataset("made", lies, y, 2), 2)
    assert said == (
        f"60 bytes are read by each node from its own {tmp_path}; "
        "40 bytes went through the object store, once to each of 2 nodes"
    )


@pytest.mark.parametrize(
    ("cause", "raised"), [(MemoryError("of 3 GiB"), ActorStartError), (ConfigError("no such layer"), ConfigError)]
)
def test_what_keeps_a_living_process_from_beginning_again_is_named(monkeypatch, cause, raised):
    made = object.__new__(RayRuntime)
    made._begun = ["ref"]

    def broken(refs, timeout):
        raise RayTaskError("begin_again", "Traceback", cause)

    monkeypatch.setattr(ray, "get", broken)
    with pytest.raises(raised, match=str(cause)):
        made._await(1.0)
