"""Finding a method by its name: a module of ``algorithms``, or the dotted path of a user's own."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import Algorithm
from strata.engine.suggest import closest

GROUP = "strata.methods"
MAIN = "__main__"
"""The module that a script or a notebook is."""


def method_names() -> list[str]:
    """Names of the methods that ship with Strata: the modules of ``algorithms``."""
    return list(_shipped())


@cache
def _shipped() -> tuple[str, ...]:
    package = importlib.import_module("strata.algorithms")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg))


def shipped_settings() -> dict[str, Path]:
    """Settings of methods that ship with Strata under names of their own: YAML files of ``algorithms/settings``."""
    package = importlib.import_module("strata.algorithms")
    return {path.stem: path for folder in package.__path__ for path in sorted(Path(folder, "settings").glob("*.yaml"))}


def installed_methods() -> dict[str, str]:
    """Methods that other packages bring, by name, each with its path: their entry points ``strata.methods``."""
    shipped = set(method_names())
    return {point.name: point.value for point in entry_points(group=GROUP) if point.name not in shipped}


def path_named(name: str) -> str:
    """What a method's name stands for: the path that an installed package gives it, or else the name itself.

    Packages are asked only for names that are neither paths nor methods that ship with Strata: all of their metadata
    are read for it.
    """
    if "." in name or ":" in name or name in _shipped():
        return name
    return installed_methods().get(name, name)


def load_method(name: str) -> type[Algorithm[Any, Any, Any, Any]]:
    """The class of a method by its module's name, or by ``module:Class``; see :mod:`strata.engine.method.algorithm`.

    Raises:
        ConfigError: when there is no such module, it does not say which class is the method, or the class lacks some of
            what a method has.
    """
    module, (_, _, attribute) = method_module(name), path_named(name).partition(":")
    method = getattr(module, attribute or "METHOD", None)
    if not (isinstance(method, type) and issubclass(method, Algorithm)):
        again = " Define it there again, as it was when the run began." if module.__name__ == MAIN else ""
        raise ConfigError(
            f"algorithm={name}: {module.__name__} must define {attribute or 'METHOD'}, a FlatAlgorithm or "
            f"TieredAlgorithm.{again}"
        )
    lacking = sorted(getattr(method, "__abstractmethods__", ())) if inspect.isabstract(method) else []
    lacking += [] if isinstance(getattr(method, "Config", None), type) else ["Config"]
    if lacking:
        raise ConfigError(f"algorithm={name}: {method.__name__} must define {', '.join(lacking)}.")
    return method


def name_of(method: type[Algorithm[Any, Any, Any, Any]]) -> str:
    """The name by which :func:`load_method` finds a class.

    Raises:
        ConfigError: when it is no method, or is not at the top level of a module, a script or a notebook.
    """
    if not issubclass(method, Algorithm):
        raise ConfigError(f"algorithm={method!r}: expected a FlatAlgorithm or TieredAlgorithm, or its name.")
    module = method.__module__
    if module != MAIN and getattr(sys.modules.get(module), "METHOD", None) is method:
        return module.removeprefix("strata.algorithms.")
    return path_of(method, "algorithm")


def path_of(code: object, key: str) -> str:
    """``module:name`` of a class or function, by which it is found again; ``key`` is the setting that it is for.

    Raises:
        ConfigError: when it is not at the top level of a module, a script or a notebook, under its own name.
    """
    module, name = getattr(code, "__module__", None), getattr(code, "__qualname__", "")
    if module is None or getattr(sys.modules.get(module), name, None) is not code:
        raise ConfigError(
            f"{key}: {code!r:.80} cannot be found by its name. Define it by class or def at the top level of a module, "
            "a script or a notebook cell."
        )
    return f"{module}:{name}"


def load_function(path: str, key: str) -> Callable[..., Any]:
    """The function, or what else can be called, that ``module:name`` names; ``key`` is the setting that it is for.

    Raises:
        ConfigError: when there is none.
    """
    module, colon, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if colon else None
    except Exception as error:  # a module of the user's own may raise anything
        raise ConfigError(f"{key}={path}: {type(error).__name__}: {error}. Expected package.module:function.") from None
    if not callable(found):
        raise ConfigError(f"{key}={path}: expected a function, as package.module:function.")
    return cast("Callable[..., Any]", found)


def short_name(algorithm: str) -> str:
    """The last part of a method's name, for folders."""
    return algorithm.rpartition(":")[2].rpartition(".")[2]


def method_module(name: str) -> ModuleType:
    """The module of a method; raises as :func:`load_method` does."""
    if (path := path_named(name)) != name:
        return _imported(name, path.partition(":")[0])
    named, colon, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*named.split("."), *[attribute] * bool(colon)]):
        raise ConfigError(f"algorithm={name}: expected a name or a dotted path. Found: {', '.join(method_names())}.")
    if colon:
        return _imported(name, named)
    path = name if "." in name else f"strata.algorithms.{name}"
    if "." not in name and name not in _shipped():
        installed = installed_methods()
        if name in installed:  # under the name of its own module
            return _imported(name, name)
        known = [*method_names(), *shipped_settings(), *installed]
        raise ConfigError(
            f"algorithm={name}: no such method.{closest(name, known)} Found: {', '.join(known)}; a dotted path names a "
            "module of your own."
        )
    return _imported(name, path)


def _imported(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise ConfigError(f"algorithm={name}: cannot import {path}: {error}. Is its folder on PYTHONPATH?") from None
    except (Exception, SystemExit) as error:  # a module of the user's own may raise anything
        raise ConfigError(f"algorithm={name}: importing {path} raised {type(error).__name__}: {error}.") from error
