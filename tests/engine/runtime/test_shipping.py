"""What is sent to nodes that lack code, and what nodes are compared by: folders laid out here, no Ray."""

import sys
from pathlib import Path

import pytest

from strata.engine.errors import ClusterError
from strata.engine.runtime import shipping
from strata.engine.runtime.shipping import NEEDED, OWN, SAME, lacking, look_around, parcel, unlike
from tests.policy.source import ROOT

LOOK = look_around()


def planted(top, *paths):
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text("x = 1\n")


def laid(names):
    """Names of the files that would be sent, and their size."""
    with parcel(names) as sent:
        tops = [Path(path) for path in sent.paths]
        files = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
        parents = {path: next(top.parent for top in tops if path == top or top in path.parents) for path in files}
        return {path.relative_to(parents[path]).as_posix() for path in files}, sent.size_bytes


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """A folder that Python imports from, and forgets again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        sys.modules.pop(name)


@pytest.mark.parametrize("clone", ["strata", "my-clone"])
def test_ours_are_three_rooms_whatever_the_clone_is_called(tmp_path, monkeypatch, clone):
    top = tmp_path / clone
    planted(top, "setup.py", "tests/test_a.py", "engine/tree.py", "algorithms/fedavg.py", "cluster/api/__init__.py")
    planted(
        top, "engine/sources/embedded/images.npz", "engine/__pycache__/tree.cpython-311.py", "algorithms/fedavg.yaml"
    )
    places = {"strata": top / "cluster/api", "strata.engine": top / "engine", "strata.algorithms": top / "algorithms"}
    monkeypatch.setattr(shipping, "place_of", places.__getitem__)
    files, size = laid(["strata"])
    assert files == {
        "strata/__init__.py", "strata/engine/tree.py", "strata/algorithms/fedavg.py", "strata/algorithms/fedavg.yaml"
    }  # fmt: skip
    assert size == 4 * len("x = 1\n")


def test_of_a_users_package_only_code_is_sent(importable):
    planted(importable / "mine", "__init__.py", "net.py", "sub/layers.py", "sub/widths.json")
    planted(importable / "mine", ".git/config.py", ".venv/lib/a.py", "runs/x/config.yaml", "data.npy", "images/cat.png")
    planted(importable, "single.py")
    files, _ = laid(["mine", "single"])
    assert files == {"mine/__init__.py", "mine/net.py", "mine/sub/layers.py", "mine/sub/widths.json", "single.py"}


def test_code_beyond_the_limit_is_refused(importable, monkeypatch):
    planted(importable / "mine", "__init__.py")
    monkeypatch.setattr(shipping, "LIMIT_MIB", 2)
    (importable / "mine/weights.json").write_bytes(b" " * (2 * 2**20))
    with pytest.raises(ClusterError, match=r"mine: its code is 2 MiB, and at most 2 MiB are sent"), parcel(["mine"]):
        pass
    (importable / "mine/weights.json").write_bytes(b" " * (2 * 2**20 - len("x = 1\n")))
    assert laid(["mine"])[1] == 2 * 2**20


def test_code_is_told_apart_by_what_is_in_it_not_by_where_it_lies(importable):
    for top in ("a", "b", "c"):
        planted(importable / top / "mine", "__init__.py", "net.py")
    (importable / "c/mine/net.py").write_text("x = 2\n")
    planted(importable / "b/mine", "__pycache__/net.py", "notes.md")  # no code
    hashes = {}
    for top in ("a", "b", "c"):
        sys.path.insert(0, str(importable / top))
        hashes[top] = LOOK((), ("mine",))["code"]["mine"]
        sys.path.remove(str(importable / top))
        sys.path_importer_cache.clear()
    assert hashes["a"] == hashes["b"]
    assert hashes["a"] != hashes["c"]
    assert LOOK((), ("no_such", "no.such")) == {**LOOK((), ()), "code": {"no_such": None, "no.such": None}}


def found(python="3.11.7", code=None, **versions):
    known = {**dict.fromkeys([*SAME, *NEEDED], "1.0"), **versions}
    return {"python": python, "versions": known, "code": code or {}}


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (found(), []),
        (found(python="3.11.2"), []),
        (found(python="3.12.7"), ["Python 3.12.7, expected 3.11.7"]),
        (found(torch="1.0+cu128"), []),
        (found(torch="1.1+cpu", ray="2"), ["ray 2, expected 1.0", "torch 1.1+cpu, expected 1.0"]),
        (found(numpy=None), ["no numpy, expected 1.0"]),
        (found(scipy="7"), []),
        (found(scipy=None), ["no scipy"]),
    ],
)
def test_what_makes_a_node_unfit(there, said):
    assert unlike(found(), there) == said


def test_what_some_node_lacks_or_has_otherwise_is_sent():
    here = found(code={"strata.engine": "e", "strata.algorithms": "a", "mine": "m", "yours": "y"})
    same = {"n1": here, "n2": here}
    assert lacking(here, same) == []
    assert lacking(here, {**same, "n3": found(code={**here["code"], "strata.algorithms": None})}) == ["strata"]
    both = {**here["code"], "strata.engine": "E", "strata.algorithms": "A", "mine": None}
    assert lacking(here, {**same, "n3": found(code=both)}) == ["strata", "mine"]


def test_this_process_finds_itself_fit_and_has_all_code():
    here = LOOK((*SAME, *NEEDED), OWN)
    assert unlike(here, here) == []
    assert all(here["versions"].values())
    assert all(here["code"].values())


def test_needed_packages_are_dependencies():
    text = (ROOT / "pyproject.toml").read_text()
    assert [name for name in (*SAME, *NEEDED) if f'"{name}' not in text] == []
