"""A Dockerfile of Strata, for CPUs or CUDA by a build argument, and what is left out of its context."""

import platform
from pathlib import Path

from strata.cluster.launch.filling import filled

FILE = "Dockerfile"


def texts(path: Path) -> dict[Path, str]:
    """The Dockerfile at a path and the list of what its context leaves out beside it, as texts by path."""
    python = ".".join(platform.python_version_tuple()[:2])
    beside = path.with_name(f"{path.name}.dockerignore")
    return {path: filled("Dockerfile", None, {"python": python}), beside: filled("dockerignore", None, {})}


def following(path: Path) -> str:
    """What to type next."""
    return f"docker build --file {path} --build-arg DEVICE=cpu --tag strata:cpu .    # in a clone of Strata; or cuda"
