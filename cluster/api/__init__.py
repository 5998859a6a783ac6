"""Strata: simulate personalised, heterogeneous, multi-tier federated learning.

Example::

    import strata

    with strata.Federation.from_config("permfl", ["rounds=5", "runtime=inprocess"]) as federation:
        for record in federation:
            print(record.round, record.scores["PM"].accuracy)

Names are imported when they are used: ``import strata`` itself takes no time.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from strata.engine.lazy import lazily

if TYPE_CHECKING:
    from strata.cluster.run.session import Session
    from strata.engine.config.load import load_config
    from strata.engine.config.schema import RunConfig
    from strata.engine.errors import StrataError, StrataWarning
    from strata.engine.federation import Federation

    __version__: str

__all__ = ["Federation", "RunConfig", "Session", "StrataError", "StrataWarning", "__version__", "load_config"]

HOMES = {
    "Federation": "strata.engine.federation",
    "RunConfig": "strata.engine.config.schema",
    "Session": "strata.cluster.run.session",
    "StrataError": "strata.engine.errors",
    "StrataWarning": "strata.engine.errors",
    "load_config": "strata.engine.config.load",
}


_find = lazily(__name__, HOMES)


def __getattr__(name: str) -> object:
    return version("strata-fl") if name == "__version__" else _find(name)


def __dir__() -> list[str]:
    return __all__
