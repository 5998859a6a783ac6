"""Who may import whom. Every rule is held against the source, and against a tree that breaks it."""

from textwrap import dedent

import pytest

from tests.policy import imports as rules
from tests.policy.source import PACKAGES, ROOT, imports, modules

WAYS = {
    "at the top": "import strata.{}",
    "from": "from strata.{} import x",
    "in a function": "def f():\n    from strata.{} import x",
    "for type checkers": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from strata.{} import x",
    "by name": 'import importlib\nmodule = importlib.import_module("strata.{}")',
    "by a name that begins so": 'from importlib import import_module\nmodule = import_module(f"strata.{}.{{x}}")',
}


@pytest.fixture
def plant(tmp_path):
    """Files of a bad tree: path → text."""

    def planted(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(dedent(text), encoding="utf8")
        return tmp_path

    return planted


def test_the_rules_look_at_the_source():
    assert {module.path.split("/")[0] for module in modules(ROOT)} == set(PACKAGES)
    graph = rules.edges(ROOT)
    assert len(graph) > 100
    assert all(graph[f"strata.algorithms.{name}"] for name in ("fedavg", "permfl", "hapfl"))
    assert "strata.engine.errors" in graph["strata.engine.options"]


def test_no_modules_import_in_a_circle():
    assert rules.circle(rules.edges(ROOT)) == []


def test_no_rooms_import_in_a_circle():
    assert rules.circle(rules.room_edges(ROOT)) == []


def test_every_room_has_its_floor():
    assert rules.homeless(ROOT) == set(), "say in FLOORS where it stands"


def test_imports_point_downwards_only():
    assert rules.upward(ROOT) == set()


def test_nothing_inside_imports_the_facade():
    assert rules.facade_imports(ROOT) == []


def test_nothing_is_imported_under_a_bare_name():
    assert rules.bare_imports(ROOT) == []


def test_libraries_are_imported_where_they_belong():
    assert list(rules.library_imports(ROOT)) == []


@pytest.mark.parametrize("library", rules.IN_ONE_MODULE)
def test_these_libraries_are_imported_in_one_module(library):
    assert len(rules.importers(ROOT, library)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_circle_of_modules_is_seen(plant, way):
    root = plant(
        {"engine/data/a.py": WAYS[way].format("engine.data.b"), "engine/data/b.py": "import strata.engine.data.a"}
    )
    assert set(rules.circle(rules.edges(root))) == {"strata.engine.data.a", "strata.engine.data.b"}
    assert rules.circle(rules.room_edges(root)) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_circle_of_rooms_is_seen(plant, way):
    root = plant(
        {
            "cluster/run/a.py": WAYS[way].format("cluster.sinks.b"),
            "cluster/sinks/b.py": "",
            "cluster/sinks/c.py": "import strata.cluster.run.d",
            "cluster/run/d.py": "",
        }
    )
    assert rules.circle(rules.edges(root)) == []
    assert set(rules.circle(rules.room_edges(root))) == {"cluster.run", "cluster.sinks"}


def test_a_relative_import_counts_as_what_it_means(plant):
    root = plant({"engine/data/__init__.py": "from . import a", "engine/data/a.py": "from ..tree import walk\n"})
    named = {module.path: [found.name for found in imports(module)] for module in modules(root)}
    assert named == {
        "engine/data/__init__.py": ["strata.engine.data.a"],
        "engine/data/a.py": ["strata.engine.tree.walk"],
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("engine.tree", "engine.data.dataset"),
        ("engine.rounds.world", "engine.config.schema"),
        ("engine.runtime.ray", "engine.federation"),
        ("engine.method.control", "algorithms.hapfl"),
        ("engine.config.schema", "algorithms.hapfl"),
        ("algorithms.hapfl", "cluster.cli"),
        ("algorithms.hapfl", "envs.turns"),
        ("envs.turns", "agents.driver"),
        ("agents.driver", "envs.turns"),
        ("envs.turns", "algorithms.hapfl"),
        ("agents.driver", "algorithms.hapfl"),
    ],
)
def test_an_upward_import_is_seen(plant, way, source, target):
    paths = [f"{name.replace('.', '/')}.py" for name in (source, target)]
    root = plant({paths[0]: WAYS[way].format(target), paths[1]: ""})
    assert rules.upward(root) == {(f"strata.{source}", f"strata.{target}")}


def test_the_plug_in_point_is_one_module_and_one_name(plant):
    by_name = 'import importlib\nimportlib.import_module("strata.{}")'
    files = {"algorithms/__init__.py": "", "algorithms/fedavg.py": "from strata.engine.method import find"}
    root = plant({**files, "engine/method/find.py": by_name.format("algorithms")})
    assert rules.upward(root) == set()
    assert rules.circle(rules.room_edges(root)) == []


@pytest.mark.parametrize(("module", "name"), [("find", "algorithms.fedavg"), ("features", "algorithms")])
def test_beside_the_plug_in_point_nothing_names_methods(plant, module, name):
    files = {"algorithms/__init__.py": "", "algorithms/fedavg.py": ""}
    root = plant({**files, f"engine/method/{module}.py": f"import strata.{name}"})
    assert rules.upward(root) == {(f"strata.engine.method.{module}", f"strata.{name}")}


def test_a_room_without_a_floor_is_seen(plant):
    assert rules.homeless(plant({"engine/attic/a.py": "", "engine/tree.py": "", "cluster/cellar.py": ""})) == {
        "engine.attic"
    }


@pytest.mark.parametrize(
    "text",
    [
        "import strata",
        "from strata import Federation",
        "def f():\n    import strata",
        "from strata.cluster.api import Federation",
        'import importlib\nimportlib.import_module("strata")',
    ],
)
def test_an_import_of_the_facade_is_seen(plant, text):
    root = plant(
        {"cluster/api/__init__.py": "from strata.engine.tree import walk", "engine/tree.py": "", "envs/a.py": text}
    )
    assert rules.facade_imports(root) == ["envs/a.py"]


@pytest.mark.parametrize("folder", ["engine", "tests"])
def test_a_bare_import_is_seen(plant, folder):
    root = plant({f"{folder}/a.py": "import strata.engine.tree\n\ndef f():\n    from engine.tree import walk\n"})
    assert rules.bare_imports(root) == [f"{folder}/a.py:4 imports engine.tree.walk"]


@pytest.mark.parametrize(
    ("path", "library"),
    [
        ("engine/rounds/server.py", "ray"),
        ("algorithms/fedavg.py", "ray"),
        ("engine/data/sources/tables.py", "rich"),
        ("envs/plain.py", "matplotlib.figure"),
        ("engine/data/dataset.py", "pandas"),
        ("engine/runtime/ray.py", "wandb"),
        ("cluster/cli.py", "omegaconf"),
    ],
)
def test_a_library_where_it_does_not_belong_is_seen(plant, path, library):
    root = plant({path: f"def f():\n    import {library}\n"})
    assert list(rules.library_imports(root)) == [f"{path}:2 imports {library}"]


def test_a_second_module_with_a_library_of_one_is_seen(plant):
    root = plant({"cluster/sinks/a.py": "import wandb", "cluster/b.py": "def f():\n    from wandb import log\n"})
    assert rules.importers(root, "wandb") == ["cluster/b.py", "cluster/sinks/a.py"]
