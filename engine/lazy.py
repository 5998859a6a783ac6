"""What is imported when it is first used, so that importing a package takes no time, and sooner than by itself."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage meanwhile, and never among what there is then: what is imported stays.

    For processes of Strata's own: torch is there in a seventh less time, and the first look for garbage among all that
    it brings, a tenth of a second, is not taken.
    """
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if looks:
            gc.enable()
