"""Finding a method by its name: a module of ``algorithms``, or the dotted path of a user's own."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import Algorithm
from strata.engine.suggest import closest


def method_names() -> list[str]:
    """Names of the methods that ship with Strata: the modules of ``algorithms``."""
    package = importlib.import_module("strata.algorithms")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg)


def load_method(name: str) -> type[Algorithm[Any, Any, Any, Any]]:
    """The class of a method by its module's name; see :mod:`strata.engine.method.algorithm`.

    Raises:
        ConfigError: when there is no such module, or it does not say which class is the method.
    """
    module = method_module(name)
    method = getattr(module, "METHOD", None)
    if not (isinstance(method, type) and issubclass(method, Algorithm)):
        raise ConfigError(
            f"algorithm={name}: {module.__name__} must define METHOD, a FlatAlgorithm or TieredAlgorithm."
        )
    return method


def method_module(name: str) -> ModuleType:
    """The module of a method; raises as :func:`load_method` does."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"algorithm={name}: expected a name or a dotted path. Found: {', '.join(method_names())}.")
    path = name if "." in name else f"strata.algorithms.{name}"
    if "." not in name and name not in method_names():
        raise ConfigError(
            f"algorithm={name}: no such method.{closest(name, method_names())} Found: {', '.join(method_names())}; "
            "a dotted path names a module of your own."
        )
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise ConfigError(f"algorithm={name}: cannot import {path}: {error}. Is its folder on PYTHONPATH?") from None
