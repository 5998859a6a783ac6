"""Names of a package that are imported when they are first used, so that importing the package takes no time."""

from collections.abc import Callable, Mapping
from importlib import import_module


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Make a package's ``__getattr__``, which imports the module that a name is defined in when the name is used.

    Args:
        package: its name.
        homes: the module that each name is defined in.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return find
