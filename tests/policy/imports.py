"""Rules about imports, each a function from a tree to its violations; an import counts wherever it stands.

A room is a folder one level below engine/ or cluster/, or a single module there; algorithms, envs and agents are one
room each.
"""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.policy.source import FACADE, FACADE_HOME, PACKAGES, Import, Module, imported_modules, imports, modules

# Lowest first: a room imports rooms of its own floor and of those below it.
FLOORS = (
    "engine.errors engine.options engine.seeding engine.suggest engine.notify engine.lazy engine.on_demand",
    "engine.tree engine.params engine.determinism engine.stopwatch",
    "engine.data engine.clock",
    "engine.models",
    "engine.method",
    "engine.evaluation",
    "engine.transport",
    "engine.training engine.state",
    "engine.rounds",
    "engine.config",
    "engine.runtime",
    "engine.identity engine.build engine.served",
    "engine.federation",
    "engine",  # what the engine exports
    "algorithms envs agents",
    "cluster",
)
STRANGERS = ("algorithms", "envs", "agents")  # on one floor, and yet none of them knows another

# The plug-in point: the engine finds a method by the name that the user gives, and knows none of them.
PLUG_IN = ("strata.engine.method.find", "strata.algorithms")

# Libraries that only some folders may import.
ONLY_IN = {
    "ray": ("engine/runtime/", "envs/", "agents/", "cluster/"),
    "matplotlib": ("cluster/",),
    "rich": ("cluster/",),
    "pandas": ("cluster/", "engine/data/sources/"),
    "wandb": ("cluster/",),
    "omegaconf": ("engine/config/",),
}
IN_ONE_MODULE = ("wandb", "omegaconf")

Edges = Mapping[str, set[str]]


def edges(root: Path) -> Edges:
    """Module → modules of the tree that it imports, but for the plug-in point."""
    every = modules(root)
    known = frozenset(module.name for module in every)
    return {m.name: {name for name in imported_modules(m, known) if (m.name, name) != PLUG_IN} for m in every}


def room_of(name: str) -> str:
    """``engine.rounds`` of ``strata.engine.rounds.world``."""
    parts = (FACADE_HOME if name == FACADE else name).split(".")[1:]
    return ".".join(parts[:2] if parts[0] in ("engine", "cluster") else parts[:1])


def room_edges(root: Path) -> Edges:
    """Room → other rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for source, targets in edges(root).items():
        room = room_of(source)
        found.setdefault(room, set()).update({room_of(target) for target in targets} - {room})
    return found


def circle(graph: Edges) -> list[str]:
    """A circle of imports, first = last; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def upward(root: Path) -> set[tuple[str, str]]:
    """Imports of a module that lies on a higher floor, or of a room that has none."""
    pairs = ((source, target) for source, targets in edges(root).items() for target in targets)
    return {pair for pair in pairs if pair[1] != FACADE and _is_upward(*(room_of(name) for name in pair))}


def _is_upward(source: str, target: str) -> bool:
    if source != target and source in STRANGERS and target in STRANGERS:
        return True
    return _floor(target) > _floor(source)


def _floor(room: str) -> int:
    place = "cluster" if room.startswith("cluster.") else room
    return next(floor for floor, rooms in enumerate(FLOORS) if place in rooms.split())


def homeless(root: Path) -> set[str]:
    """Rooms of which :data:`FLOORS` does not say where they stand."""
    declared = set(" ".join(FLOORS).split())
    rooms = {room_of(module.name) for module in modules(root)}
    return {room for room in rooms - declared if not room.startswith("cluster.")}


def facade_imports(root: Path) -> list[str]:
    """Imports of ``strata`` itself from inside: it stands above all rooms."""
    known = frozenset(module.name for module in modules(root)) | {FACADE_HOME}
    inside = [module for module in modules(root) if module.name != FACADE]
    return [module.path for module in inside if imported_modules(module, known) & {FACADE, FACADE_HOME}]


def bare_imports(root: Path) -> list[str]:
    """Imports of ``engine`` for ``strata.engine`` and the like, tests included."""
    every = modules(root, (*PACKAGES, "tests"))
    return [_at(module, found) for module in every for found in imports(module) if found.name.split(".")[0] in PACKAGES]


def library_imports(root: Path) -> Iterator[str]:
    """Imports of a library where its rule does not allow it."""
    for module in modules(root):
        for found in imports(module):
            places = ONLY_IN.get(found.name.split(".")[0])
            if places and not module.path.startswith(places):
                yield _at(module, found)


def importers(root: Path, library: str) -> list[str]:
    """Paths of the modules that import it."""
    every = modules(root)
    return [module.path for module in every if library in {found.name.split(".")[0] for found in imports(module)}]


def _at(module: Module, found: Import) -> str:
    return f"{module.path}:{found.line} imports {found.name}"
