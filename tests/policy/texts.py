"""Rules about the text of files, each a function from a tree to its violations."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.policy.source import PACKAGES, ROOT, modules

PAGES = ("*.toml", "*.txt", "*.md", "*.py")
HOSTS = re.compile("py" + r"pi\.org|python" + r"hosted\.org")
UNPICKLING = ("pickle.load", "torch.load(", "allow_pickle=True")
THREADS = ("single_thread", "num_threads")
MODES = re.compile(r"\.(eval|train)\(\)")


def unsafe(root: Path = ROOT) -> Iterator[str]:
    """Files that unpickle, which runs code, or name a package registry, which is the installer's business."""
    inside = [root / module.path for module in modules(root)]
    for path in [*inside, *(page for pattern in PAGES for page in root.glob(pattern))]:
        text = path.read_text(encoding="utf8")
        if HOSTS.search(text):
            yield f"{path.relative_to(root)} names a package registry"
        yield from (f"{path.relative_to(root)}: {call}" for call in UNPICKLING if call in text)


def meddling_methods(root: Path = ROOT) -> Iterator[str]:
    """Methods that set the number of threads, which the engine does, or a module's mode, which the trainer does."""
    for path in (root / "algorithms").glob("*.py"):
        text = path.read_text(encoding="utf8")
        yield from (f"{path.name}: {word}" for word in THREADS if word in text)
        yield from (f"{path.name}: {found.group()}" for found in MODES.finditer(text))


def unknown_symbols(path: Path) -> Iterator[str]:
    """Docstrings of a method that begin with a symbol which its module's table does not have."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    table = ast.get_docstring(tree) or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            # One capital letter, which is a symbol where it is not the article; with an arrow it is what is computed.
            begins = re.match(r"(?!A [a-z])([A-Z])(?!\w)( ←)?", ast.get_docstring(node) or "")
            if begins and not re.search(rf"(?<!\w){begins[1]}(?!\w){begins[2] or ''}", table):
                yield f"{path.name}: {node.name}: {begins.group()}"


def bare_mentions(root: Path = ROOT) -> Iterator[str]:
    """References in docstrings and comments to modules by a name under which they are not installed."""
    bare = re.compile(rf":(?:mod|class|func|meth|attr|data|exc):`~?(?:{'|'.join(PACKAGES)})\b[.`]")
    for module in modules(root):
        for found in bare.finditer((root / module.path).read_text(encoding="utf8")):
            yield f"{module.path}: {found.group()}"


def glued_steps(path: Path) -> Iterator[str]:
    """Numbered steps in a module's docstring that do not begin a line, as where somebody has filled a paragraph."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf8"))) or ""
    yield from (f"{path.name}: {found[1]}" for found in re.finditer(r"\S +([2-9]\. +\w+)", docstring))
