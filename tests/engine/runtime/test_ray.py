"""Closing a federation of actors, and what is shipped to nodes, with Ray's own calls noted: no Ray is started."""

from pathlib import Path

import pytest
import ray

from strata.engine.config.schema import RayConfig
from strata.engine.runtime import ray as runtime
from strata.engine.runtime.ray import RayRuntime


@pytest.fixture
def ray_calls(monkeypatch):
    """What Ray was asked for, in order; a kill would start a new Ray where there is none."""
    made, running = [], [True]
    monkeypatch.setattr(ray, "is_initialized", lambda: running[0])
    monkeypatch.setattr(ray, "kill", lambda handle: made.append(handle if running[0] else "a new Ray"))
    monkeypatch.setattr(ray, "shutdown", lambda: made.append("shutdown") or running.__setitem__(0, False))
    return made


def closing(owns_ray):
    made = object.__new__(RayRuntime)
    made.handles, made._owns_ray = ["a", "b"], owns_ray
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


ROOMS = ("engine", "algorithms")


@pytest.fixture
def shipped(monkeypatch):
    """Join a cluster that answers at once: gives the files of the first folder that it is sent, and the others."""

    def connect(folders, packages=()):
        sent = []

        def init(address, runtime_env, **options):
            own, *others = runtime_env["py_modules"]
            files = {path.relative_to(Path(own).parent).as_posix() for path in Path(own).rglob("*.py")}
            sent.extend([files, others])

        monkeypatch.setattr(runtime, "_folder", folders.__getitem__)
        monkeypatch.setattr(runtime, "_require_listener", lambda address: None)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", init)
        runtime.connect(RayConfig(address="there:1"), packages)
        return sent

    return connect


def planted(top, *paths):
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).touch()


def test_an_installed_package_is_shipped_as_it_lies(tmp_path, shipped):
    top = tmp_path / "strata"
    planted(top, "__init__.py", "engine/tree.py", "algorithms/fedavg.py")
    files, _ = shipped({"strata": top, **{f"strata.{room}": top / room for room in ROOMS}})
    assert files == {"strata/__init__.py", "strata/engine/tree.py", "strata/algorithms/fedavg.py"}


@pytest.mark.parametrize("clone", ["strata", "my-clone"])
def test_a_clone_is_laid_together_whatever_its_folder_is_called(tmp_path, shipped, clone):
    top = tmp_path / clone
    planted(top, "setup.py", "tests/test_a.py", "engine/tree.py", "algorithms/fedavg.py", "cluster/api/__init__.py")
    files, _ = shipped({"strata": top / "cluster/api", **{f"strata.{room}": top / room for room in ROOMS}})
    assert files == {"strata/__init__.py", "strata/engine/tree.py", "strata/algorithms/fedavg.py"}
