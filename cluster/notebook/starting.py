"""``strata.run``: what the command ``strata run`` does, for notebooks and scripts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from strata.cluster.notebook.handle import Run, load_run
from strata.cluster.run.runner import new_run_dir, run_one
from strata.cluster.run.runner import resume as resume_run
from strata.cluster.run.stopping import Rule
from strata.cluster.sinks.display import display_for
from strata.cluster.sinks.sink import Sink
from strata.cluster.terminal import console
from strata.engine.config.given import Source, load_given, taken
from strata.engine.config.load import Settings, nested
from strata.engine.config.schema import for_seed
from strata.engine.errors import ConfigError


def run(
    source: Source | None = None,
    config: Settings | None = None,
    /,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
    sinks: Sequence[Sink] = (),
    stop: Rule | Settings | None = None,
    **settings: Any,
) -> Run:
    """Run a method, a YAML file, or the rest of a run, with its folder, trackers, agents and checkpoints.

    Ctrl-C (in a notebook: interrupt) ends it after the round under way, with a checkpoint; what is returned then is
    not ``finished``.

    Args:
        source: a method's name or class, or a YAML file; not with ``resume``.
        config: settings by key, ``{"clients.count": 10}`` or nested ``{"clients": {"count": 10}}``. Values are taken
            as they are.
        resume: folder of a run to go on with; the settings given are then those to change.
        quiet: show nothing.
        sinks: more consumers of the run's records: objects with ``start``, ``round`` and ``finish``.
        stop: a function that is given each round's record and says whether the run ends with it; or the settings of the
            group ``stop``.
        settings: the same as keyword arguments: ``rounds=20, clients={"count": 10}, **{"method.lr": 0.1}``. These may
            be objects: ``data=`` a data set of :mod:`strata.data`, ``partition=`` the rows of each client (a list, or
            a dict by client id), ``delays=`` a list of a :class:`strata.Profile` for each, ``model=`` a class or
            function that makes a torch module of (input shape, classes), ``metrics=`` functions by name of a client's
            outputs and targets, ``schedule=`` a :class:`strata.Waiting`, which says how long servers wait for their
            clients, ``team_schedule=`` the same of the global server and its teams. A run that is resumed is given the
            same objects again.

    Raises:
        StrataError: what kept the run from beginning, or ended it.
    """
    rule = stop if callable(stop) else None
    given = _together(config, settings if stop is None or rule else {**settings, "stop": stop})
    display = display_for(_console(quiet))
    if resume is not None:
        if source is not None:
            raise ConfigError(f"{source!r}, resume={resume}: expected one of them; a resumed run has its method.")
        opened = load_run(resume)
        plain, objects = taken(given)
        resume_run(opened.run_dir, nested(plain), display, given=objects, sinks=sinks, rule=rule)
        return Run(opened.run_dir, objects, rule)
    if source is None:
        raise ConfigError('strata.run: name a method or a YAML file, e.g. strata.run("permfl"), or give resume=FOLDER.')
    loaded, objects = load_given(source, given, {})
    if len(loaded.seeds) > 1:
        raise ConfigError(
            f"seeds={loaded.seeds}: strata.run makes one run. Call it for each: "
            f"[strata.run({source!r}, seed=seed) for seed in {loaded.seeds}]."
        )
    one = for_seed(loaded, *loaded.seeds or [loaded.seed])
    return Run(run_one(one, new_run_dir(one), display, given=objects, sinks=sinks, rule=rule).run_dir, objects, rule)


def _together(config: Settings | None, settings: Settings) -> Settings:
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(f"config={config!r}: expected settings by key, e.g. {{'clients.count': 10}}.")
    if twice := sorted(set(config or ()) & set(settings)):
        raise ConfigError(f"{twice[0]}: it is given twice, in the settings and as a keyword argument. Give it once.")
    return {**(config or {}), **settings}


def _console(quiet: bool) -> Console:
    """Where the run is shown: a notebook gets plain lines, one block of text below its cell."""
    if Console().is_jupyter:
        return Console(force_jupyter=False, force_terminal=False, no_color=True, emoji=False, quiet=quiet, width=120)
    shown = console()
    shown.quiet = quiet
    return shown
