"""What is imported when it is first used, so that importing a package takes no time, and sooner than by itself."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module

TORCH = "torch"
"""What brings most of the objects of a process."""


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


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage meanwhile: what is imported stays, and torch is there in a seventh less time.

    Where torch has come with it, what is there then is never looked at again, which takes a tenth of a second; a
    process that had torch before is somebody's who may keep much that becomes garbage.
    """
    looks, before = gc.isenabled(), TORCH in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if TORCH in sys.modules and not before:
            gc.freeze()
        if looks:
            gc.enable()
