"""Strata: simulate personalised, heterogeneous, multi-tier federated learning.

Example::

    import strata

    run = strata.run("permfl", rounds=20, clients={"count": 20})
    run.history["PM.accuracy"].plot()
    model = run.client_model(3)

    with strata.Federation.from_config("permfl", ["rounds=5", "runtime=inprocess"]) as federation:
        for record in federation:
            print(record.round, record.scores["PM"].accuracy)

Names are imported when they are used: ``import strata`` itself takes no time.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from strata.engine.lazy import lazily

if TYPE_CHECKING:
    from strata.cluster.notebook.handle import Run, load_run
    from strata.cluster.notebook.starting import run
    from strata.cluster.notebook.weights import load_model
    from strata.cluster.run.session import Session
    from strata.engine.clock.devices import Profile
    from strata.engine.config.load import load_config
    from strata.engine.config.schema import RunConfig
    from strata.engine.data import memory as data
    from strata.engine.errors import StrataError, StrataWarning
    from strata.engine.federation import Federation
    from strata.engine.rounds.schedules import Waiting

    __version__: str

__all__ = [
    "Federation",
    "Profile",
    "Run",
    "RunConfig",
    "Session",
    "StrataError",
    "StrataWarning",
    "Waiting",
    "__version__",
    "data",
    "load_config",
    "load_model",
    "load_run",
    "run",
]

HOMES = {
    "Federation": "strata.engine.federation",
    "Profile": "strata.engine.clock.devices",
    "Run": "strata.cluster.notebook.handle",
    "RunConfig": "strata.engine.config.schema",
    "Session": "strata.cluster.run.session",
    "StrataError": "strata.engine.errors",
    "StrataWarning": "strata.engine.errors",
    "Waiting": "strata.engine.rounds.schedules",
    "load_config": "strata.engine.config.load",
    "load_model": "strata.cluster.notebook.weights",
    "load_run": "strata.cluster.notebook.handle",
    "run": "strata.cluster.notebook.starting",
}


_find = lazily(__name__, HOMES)


def __getattr__(name: str) -> object:
    if name == "data":
        return import_module("strata.engine.data.memory")
    return version("strata-fl") if name == "__version__" else _find(name)


def __dir__() -> list[str]:
    return __all__
