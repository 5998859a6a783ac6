"""Strata's code and a user's own, as nodes of a joined cluster have it, and as it is sent to those that lack it.

Only code travels: no data, no repository, no virtual environment, no folder of runs.
"""

import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from strata.engine.errors import ClusterError

CODE = (".py", ".pyi", ".so", ".typed", ".yaml", ".yml", ".json", ".toml")
LEFT_OUT = ("__pycache__", ".git", ".venv", "venv", "node_modules", "runs", "wandb")
LIMIT_MIB = 50

OWN = ("strata.engine", "strata.algorithms")
"""What an actor imports of Strata; the command line, environments and agents stay where the run was started."""

SAME = ("ray", "torch", "numpy")
"""Packages whose version enters how a run is computed or how processes talk, and is one on all nodes."""
NEEDED = ("cachetools", "gymnasium", "pydantic", "pyyaml", "safetensors", "scipy")
"""Packages that an actor imports in whatever version."""


class Found(TypedDict):
    """What a process finds where it runs.

    Attributes:
        python: the version, as in 3.11.7.
        versions: of packages by name; None where one is not installed.
        code: a hash of the code of packages and modules by name; None where one is not there.
    """

    python: str
    versions: dict[str, str | None]
    code: dict[str, str | None]


@dataclass(frozen=True)
class Parcel:
    """Code that was laid together to be sent: its top folders and files, and how large it is."""

    paths: Sequence[str]
    size_bytes: int


def look_around() -> Callable[[Sequence[str], Sequence[str]], Found]:
    """A function that says what is installed where it runs: given names of packages, and of packages and modules.

    It refers to nothing of Strata, not even in an annotation, and is a function within a function, which Ray sends by
    value: so it runs on nodes that have no Strata.
    """
    suffixes, left_out = CODE, LEFT_OUT

    def look(packages: Sequence[str], code: Sequence[str]) -> object:
        import hashlib
        import platform
        from importlib.metadata import PackageNotFoundError, version
        from importlib.util import find_spec
        from pathlib import Path

        def version_of(name: str) -> str | None:
            try:
                return version(name)
            except PackageNotFoundError:
                return None

        def files(name: str) -> list[tuple[str, Path]]:
            try:
                spec = find_spec(name)
            except Exception:  # a package above it that cannot be imported is as good as none
                spec = None
            if spec is None:
                return []
            if not spec.submodule_search_locations:
                return [(name, Path(str(spec.origin)))]
            top = Path(next(iter(spec.submodule_search_locations)))
            inside = [path.relative_to(top) for path in top.rglob("*") if path.suffix in suffixes]
            kept = [path for path in inside if not set(path.parts) & set(left_out) and (top / path).is_file()]
            return [(path.as_posix(), top / path) for path in sorted(kept)]

        def digest(name: str) -> str | None:
            parts = [(path, file.read_bytes()) for path, file in files(name)]
            return hashlib.sha256(repr(parts).encode()).hexdigest() if parts else None

        return {
            "python": platform.python_version(),
            "versions": {name: version_of(name) for name in packages},
            "code": {name: digest(name) for name in code},
        }

    return cast("Callable[[Sequence[str], Sequence[str]], Found]", look)


def unlike(here: Found, there: Found) -> list[str]:
    """What makes a node unfit for the run, each as a phrase: of its Python and packages, not of code that can be sent.

    Versions are compared without what follows a ``+``: torch's builds for CPUs and for CUDA are of one version.
    """
    said = []
    if here["python"].split(".")[:2] != there["python"].split(".")[:2]:
        said.append(f"Python {there['python']}, expected {here['python']}")
    for name in SAME:
        ours, theirs = here["versions"][name], there["versions"][name]
        if theirs is None or str(ours).partition("+")[0] != theirs.partition("+")[0]:
            said.append(f"{name} {theirs}, expected {ours}" if theirs else f"no {name}, expected {ours}")
    return said + [f"no {name}" for name in NEEDED if here["versions"][name] and not there["versions"][name]]


def lacking(here: Found, there: Mapping[str, Found]) -> list[str]:
    """Names of packages and modules whose code some node lacks, or has in another form; ``strata`` for ours."""
    missing = [
        name for name, code in here["code"].items() if any(node["code"][name] != code for node in there.values())
    ]
    return list(dict.fromkeys("strata" if name in OWN else name for name in missing))


@contextmanager
def parcel(names: Sequence[str]) -> Iterator[Parcel]:
    """Lay the code of packages and modules together for a while, to be sent; ``strata`` is what actors need of ours.

    Raises:
        ClusterError: when one of them is larger than any code should be.
    """
    with tempfile.TemporaryDirectory(prefix="strata-") as folder:
        paths = [_laid(name, Path(folder)) for name in names]
        sizes = {name: _size(path) for name, path in zip(names, paths, strict=True)}
        for name, size in sizes.items():
            if size > LIMIT_MIB * 2**20:
                raise ClusterError(
                    f"{name}: its code is {size / 2**20:.0f} MiB, and at most {LIMIT_MIB} MiB are sent to a cluster's "
                    "nodes. Install it on every node, or move what is not code out of its folder."
                )
        yield Parcel([str(path) for path in paths], sum(sizes.values()))


def _laid(name: str, folder: Path) -> Path:
    """Copy the code of a package or module into a folder; returns the copy."""
    if name != "strata":
        return _copied(place_of(name), folder)
    # A clone has no folder strata, and an installation holds more than actors need.
    whole = folder / "strata"
    whole.mkdir()
    shutil.copy(place_of("strata") / "__init__.py", whole)
    for room in OWN:
        _copied(place_of(room), whole)
    return whole


def _copied(place: Path, folder: Path) -> Path:
    if place.is_file():
        return Path(shutil.copy(place, folder))
    return Path(shutil.copytree(place, folder / place.name, ignore=_no_code))


def _no_code(folder: str, names: list[str]) -> list[str]:
    places = {name: Path(folder, name) for name in names}
    return [name for name, at in places.items() if name in LEFT_OUT or (at.is_file() and at.suffix not in CODE)]


def place_of(name: str) -> Path:
    """Where an installed package or module lies: its folder, or its file."""
    module = importlib.import_module(name)
    return Path(next(iter(module.__path__)) if hasattr(module, "__path__") else str(module.__file__))


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
