"""Closing a federation of actors, with Ray's own calls noted instead of made: no Ray is started."""

import pytest
import ray

from strata.engine.runtime.ray import RayRuntime


@pytest.fixture
def ray_calls(monkeypatch):
    """What Ray was asked for, in order; a kill would start a new Ray where there is none."""
    made, running = [], [True]
    monkeypatch.setattr(ray, "is_initialized", lambda: running[0])
    monkeypatch.setattr(ray, "kill", lambda handle: made.append(handle if running[0] else "a new Ray"))
    monkeypatch.setattr(ray, "shutdown", lambda: made.append("shutdown") or running.__setitem__(0, False))
    return made


def runtime(owns_ray):
    made = object.__new__(RayRuntime)
    made.handles, made._owns_ray = ["a", "b"], owns_ray
    return made


def test_closing_again_does_nothing(ray_calls):
    mine = runtime(True)
    mine.close()
    assert sorted(ray_calls[:2]) == ["a", "b"]
    mine.close()
    assert ray_calls[2:] == ["shutdown"]


def test_closing_after_rays_end_starts_no_new_one(ray_calls):
    guest = runtime(False)
    runtime(True).close()  # whose Ray it was
    ray_calls.clear()
    guest.close()
    assert ray_calls == []
