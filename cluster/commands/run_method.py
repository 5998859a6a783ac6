"""``strata run``: a method, a YAML file, or the rest of a run that was stopped; once for each seed."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from strata.cluster.early import begin_ray
from strata.cluster.terminal import recording, waiting
from strata.engine.lazy import importing

if TYPE_CHECKING:
    from rich.console import Console

    from strata.engine.config.schema import RunConfig

NAME = "run"
HELP = "Run a method, a YAML file, or resume a run."
EXAMPLE = "strata run permfl rounds=20 seed=3"
RESUME = "resume="


def add(parser: ArgumentParser) -> None:
    """Declare what to run, its settings, a profile, and a picture of the terminal."""
    parser.add_argument("source", metavar="METHOD|FILE.yaml|resume=RUN_DIR")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--continue", dest="onward", action="store_true", help="go on with the newest such run in `output`, if there is"
    )
    parser.add_argument("--profile", action="store_true", help="say where the wall seconds of the rounds went")
    parser.add_argument("--svg", type=Path, help="also save what the terminal showed as an SVG picture")


def act(arguments: Namespace) -> int:
    """Run or resume; returns the exit code of the run, the worst one of several seeds."""
    source, overrides = arguments.source, list(arguments.overrides)
    with recording(arguments.svg) as console:
        if source.startswith(RESUME):
            return _resume(Path(source.removeprefix(RESUME)), overrides, console, arguments.profile)
        begin_ray(source, [source, *overrides] if "=" in source else overrides)
        with waiting(console, "reading the configuration"), importing():  # of what it takes, some seconds
            config = _load(source, overrides)
        return _run(config, console, arguments.profile, arguments.onward)


def _resume(run_dir: Path, overrides: Sequence[str], console: "Console", profile: bool) -> int:
    from strata.cluster.run.runner import resume
    from strata.cluster.sinks.display import display_for
    from strata.engine.config.written import parse_overrides

    display = display_for(console)
    return resume(run_dir, parse_overrides(overrides), display, profile).exit_code


def _run(config: "RunConfig", console: "Console", profile: bool, onward: bool) -> int:
    from strata.cluster.run.runner import newest_run, run_all
    from strata.cluster.sinks.display import display_for, failures_table, seeds_table
    from strata.engine.evaluation.measures import measure_of

    summaries = run_all(config, display_for(console), profile, newest_run if onward else None)
    if len(summaries) == 1 and summaries[0].failure:
        raise summaries[0].failure
    by_seed = dict(zip(config.seeds, summaries, strict=False))
    results = {seed: summary.last for seed, summary in by_seed.items() if not summary.failure}
    if results and len(summaries) > 1:
        console.print(seeds_table(results, measure_of(by_seed[next(iter(results))].headline)))
    if failed := {f"seed {seed}": str(summary.failure) for seed, summary in by_seed.items() if summary.failure}:
        console.print(failures_table(failed))
    return max(summary.exit_code for summary in summaries)


def _load(source: str, overrides: Sequence[str]) -> "RunConfig":
    from strata.engine.config.load import load_config
    from strata.engine.config.written import parse_overrides

    if "=" in source:
        # `strata run algorithm=permfl …`: the method may be a key like any other.
        overrides = [source, *overrides]
        named = parse_overrides(overrides).get("algorithm")
        source = named if isinstance(named, str) else "permfl"
    return load_config(source, overrides)
