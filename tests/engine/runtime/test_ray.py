"""What is shipped to a cluster's nodes; nothing here starts Ray."""

from pathlib import Path

import pytest
import ray

from strata.engine.config.schema import RayConfig
from strata.engine.runtime import ray as runtime

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
