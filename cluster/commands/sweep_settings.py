"""``strata sweep``: one method under many settings, as trials of Ray Tune; or the rest of a sweep that was stopped."""

import shlex
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from strata.cluster.terminal import recording
from strata.engine.errors import StrataError

if TYPE_CHECKING:
    from rich.console import Console

    from strata.cluster.sweep.ledger import Sweep

NAME = "sweep"
HELP = "Run a method under many settings, side by side as trials of Ray Tune, or resume a sweep."
EXAMPLE = (
    "strata sweep fedprox method.mu=0.01,0.1,1 partition.alpha=0.1,1 seeds=[0,1,2] rounds=50\n"
    "  strata sweep fedavg 'method.lr=loguniform(1e-3,1)' --samples 20 --cpus 2\n"
    "  strata sweep resume=runs/sweep-fedprox-20260101-120000"
)
RESUME = "resume="


def add(parser: ArgumentParser) -> None:
    """Declare what is swept, how often ranges are drawn, and what each run is given."""
    parser.add_argument("source", metavar="METHOD|FILE.yaml|resume=SWEEP_DIR")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value[,value…]", help="several values, or a range, are swept over"
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=0,
        help="draws of ranges: key=uniform(a,b), loguniform(a,b), or whole numbers, randint(a,b)",
    )
    parser.add_argument("--cpus", type=float, help="CPUs of each run (default: 1)")
    parser.add_argument("--gpus", type=float, help="GPUs of each run (default: 0)")
    parser.add_argument("--svg", type=Path, help="also save what the terminal showed as an SVG picture")


def act(arguments: Namespace) -> int:
    """Run or resume a sweep, and tabulate it; returns 1 if a run failed."""
    for option, value in (("--samples", arguments.samples), ("--gpus", arguments.gpus)):
        if value is not None and value < 0:
            raise StrataError(f"{option} {value:g}: expected at least 0.")
    if arguments.cpus is not None and not arguments.cpus > 0:
        raise StrataError(f"--cpus {arguments.cpus:g}: expected more than 0.")
    with recording(arguments.svg) as console:
        return _play(_sweep(arguments), console)


def _sweep(arguments: Namespace) -> "Sweep":
    from strata.cluster.sweep.grid import trials_of
    from strata.cluster.sweep.ledger import begin, reopen

    given = {name: getattr(arguments, name) for name in ("cpus", "gpus") if getattr(arguments, name) is not None}
    if not arguments.source.startswith(RESUME):
        trials = trials_of(arguments.source, arguments.overrides, arguments.samples)
        return begin(trials, **{"cpus": 1.0, "gpus": 0.0, **given})
    if arguments.overrides or arguments.samples:
        raise StrataError(f"{arguments.source}: expected no settings: a sweep that is resumed has its own.")
    return replace(reopen(Path(arguments.source.removeprefix(RESUME)).expanduser()), **given)


def _play(sweep: "Sweep", console: "Console") -> int:
    from strata.cluster.sinks.display import failures_table
    from strata.cluster.sweep.outcome_table import outcomes, table_of, write_csv
    from strata.cluster.sweep.tuning import play

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{len(sweep.entries)} runs in {sweep.folder}")
    try:
        failures = play(sweep, say)
    except KeyboardInterrupt:
        say(f"Interrupted. Continue with: strata sweep {RESUME}{shlex.quote(str(sweep.folder))}")
        return 130
    if found := outcomes(sweep):
        console.print(table_of(found))
        say(f"what each run came to: {write_csv(sweep, found)}")
    if failures:
        console.print(failures_table(failures))
        say(f"Try these again with: strata sweep {RESUME}{shlex.quote(str(sweep.folder))}")
    return int(bool(failures))
