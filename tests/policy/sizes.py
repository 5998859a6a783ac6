"""Rules about sizes and names, each a function from a tree to what is over."""

from collections import Counter
from itertools import chain
from pathlib import Path

from tests.policy.source import PACKAGES, ROOT, annotations, function_lengths, modules, names_any

FOLDERS = (*PACKAGES, "tests")

FILES_PER_FOLDER = 15
NOT_COUNTED = ("__init__.py", "README.md")
FULL_BY_DEFINITION = ("algorithms", "tests/algorithms")  # one file and one YAML per method, and one of tests

LINES_PER_FILE = 350

FUNCTION_LINES_P90 = 15

ANY_SHARE = 0.03

SHARED_NAMES = ("__init__", "__main__", "config")


def crowded_folders(root: Path = ROOT) -> dict[str, int]:
    """Folders with too many files → how many."""
    files = chain.from_iterable((root / folder).rglob("*") for folder in FOLDERS)
    counted = [path for path in files if path.is_file() and path.suffix != ".pyc" and path.name not in NOT_COUNTED]
    sizes = Counter(path.parent.relative_to(root).as_posix() for path in counted)
    return {name: n for name, n in sizes.items() if n > FILES_PER_FOLDER and name not in FULL_BY_DEFINITION}


def long_files(root: Path = ROOT) -> dict[str, int]:
    """Files with too many lines, tests included → how many."""
    paths = (module.path for module in modules(root, FOLDERS))
    lines = {path: len((root / path).read_text(encoding="utf8").splitlines()) for path in paths}
    return {path: n for path, n in lines.items() if n > LINES_PER_FILE}


def function_lines_p90(root: Path = ROOT) -> int:
    """What nine in ten functions of the source do not exceed, in lines without their docstrings."""
    lengths = sorted(chain.from_iterable(function_lengths(module.tree) for module in modules(root)))
    return lengths[int(0.9 * len(lengths))]


def any_share(root: Path = ROOT) -> float:
    """Part of the source's annotations in which ``Any`` occurs."""
    every = list(chain.from_iterable(annotations(module.tree) for module in modules(root)))
    return sum(map(names_any, every)) / len(every)


def shared_names(root: Path = ROOT) -> dict[str, list[str]]:
    """Names that several modules have → their paths."""
    found: dict[str, list[str]] = {}
    for module in modules(root):
        found.setdefault(Path(module.path).stem, []).append(module.path)
    return {name: sorted(paths) for name, paths in found.items() if len(paths) > 1 and name not in SHARED_NAMES}
