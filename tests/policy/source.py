"""What the rules know of a source tree: its modules, all they import, their annotations and functions.

A tree is a folder that holds the packages: the repository, or a bad one that a test wrote.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("engine", "algorithms", "agents", "envs", "cluster")
FACADE = "strata"
FACADE_HOME = "strata.cluster.api"  # where the façade lies in the tree; installed, there is no module of that name
LOADERS = ("import_module", "__import__")


@dataclass(frozen=True)
class Module:
    """A file, its name as it is imported (``strata.engine.tree``), and its syntax."""

    name: str
    path: str  # from the tree's root
    tree: ast.Module


@dataclass(frozen=True)
class Import:
    """A name that a module imports, anywhere in it: ``strata.engine.tree.walk`` for ``from strata.engine.tree ...``."""

    name: str
    line: int


@cache
def modules(root: Path = ROOT, folders: tuple[str, ...] = PACKAGES) -> list[Module]:
    """All modules in those folders of the tree."""
    return [_module(root, path) for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def _module(root: Path, path: Path) -> Module:
    relative = path.relative_to(root)
    name = ".".join(["strata", *relative.with_suffix("").parts]).removesuffix(".__init__")
    name = FACADE if name == FACADE_HOME else name
    return Module(name, relative.as_posix(), ast.parse(path.read_text(encoding="utf8")))


def imports(module: Module) -> Iterator[Import]:
    """Whatever it imports: at its top, inside functions, for type checkers, and by ``import_module("literal")``."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = _start(module, node)
            yield from (Import(f"{start}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in LOADERS and node.args:
            yield from (Import(text, node.lineno) for text in _leading_text(node.args[0]))


def _start(module: Module, node: ast.ImportFrom) -> str:
    """The module that a ``from`` names; a relative one counts as what it means."""
    if not node.level:
        return node.module or ""
    up = node.level - module.path.endswith("__init__.py")
    parts = module.name.split(".")
    return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _leading_text(node: ast.expr) -> list[str]:
    """A literal, or what an f-string begins with: ``strata.algorithms`` of ``f"strata.algorithms.{name}"``."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    is_text = isinstance(first, ast.Constant) and isinstance(first.value, str)
    return [first.value.rstrip(".")] if is_text else []


def imported_modules(module: Module, known: frozenset[str]) -> set[str]:
    """Other modules of the tree that it imports; the façade itself counts as ``strata``."""
    ours = (name for name in (found.name for found in imports(module)) if name.split(".")[0] == "strata")
    return {_longest_known(name, known) for name in ours} - {module.name}


def _longest_known(name: str, known: frozenset[str]) -> str:
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """The annotation of each argument, return value and assignment that has one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            yield node.returns


def names_any(annotation: ast.expr) -> bool:
    """Whether ``Any`` occurs in it, quoted or not."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\bAny\b", node.value):
            return True
        if getattr(node, "id", getattr(node, "attr", None)) == "Any":
            return True
    return False


def function_lengths(tree: ast.AST) -> Iterator[int]:
    """Lines of each function and method, without its docstring: what a reader owes to documentation is not length."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.end_lineno - node.lineno + 1 - _docstring_lines(node)


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1
