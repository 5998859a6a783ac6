"""Sinks that have names, of Strata and of other packages, and those that a run is given."""

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from strata.cluster.sinks.sink import GuardedSink, Sink
from strata.engine.errors import ConfigError
from strata.engine.suggest import closest

GROUP = "strata.sinks"
SHIPPED = {
    "csv": "strata.cluster.report.csv_file:CsvSink",
    "tensorboard": "strata.cluster.sinks.tensorboard:TensorboardSink",
}


def known_sinks() -> dict[str, EntryPoint]:
    """The sinks that have names: those of Strata, and those that packages bring as entry points ``strata.sinks``."""
    shipped = {name: EntryPoint(name, path, GROUP) for name, path in SHIPPED.items()}
    return {**{point.name: point for point in entry_points(group=GROUP)}, **shipped}


def guarded(names: Sequence[str], sinks: Sequence[Sink], report: Callable[[str], None]) -> list[Sink]:
    """Sinks by name, each made without arguments, and others as they are; none of them can end a run.

    Raises:
        ConfigError: for a name of none, or an object that is no sink.
    """
    for sink in sinks:
        _require(sink, type(sink).__name__)
    made = [(name, _made(name)) for name in names] + [(type(sink).__name__, sink) for sink in sinks]
    return [GuardedSink(sink, name, report) for name, sink in made]


def load_sink(name: str) -> Callable[[], Sink]:
    """What makes a sink, by the name of it.

    Raises:
        ConfigError: for a name of none, or of one that cannot be imported.
    """
    known = known_sinks()
    if name not in known:
        found = ", ".join(known)
        raise ConfigError(f"tracking.sinks: {name}: no such sink.{closest(name, list(known))} Found: {found}.")
    try:
        return cast("Callable[[], Sink]", known[name].load())
    except (Exception, SystemExit) as error:  # another package may raise anything
        raise ConfigError(
            f"tracking.sinks: {name} cannot be loaded from {known[name].value}: {type(error).__name__}: {error}. "
            "Mend or remove the package that brings it."
        ) from error


def _made(name: str) -> Sink:
    kind = load_sink(name)
    try:
        sink = kind()
    except Exception as error:  # another package may raise anything
        raise ConfigError(f"tracking.sinks: {name} cannot be made: {type(error).__name__}: {error}.") from error
    _require(sink, name)
    return sink


def _require(sink: object, name: str) -> None:
    if isinstance(sink, type) or not isinstance(sink, Sink):
        raise ConfigError(f"sinks: {name}: expected an object with the methods start, round and finish.")
