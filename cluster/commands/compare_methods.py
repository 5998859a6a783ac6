"""``strata compare``: methods side by side in one setting, or a report about runs that exist already."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from strata.cluster.early import begin_ray_among
from strata.cluster.terminal import recording, waiting
from strata.engine.errors import StrataError
from strata.engine.lazy import importing

NAME = "compare"
HELP = "Run several methods in one setting, that of the first, or report about runs that exist: table, plots, HTML."
EXAMPLE = (
    "strata compare permfl fedavg fedprox:method.mu=0.1 rounds=20 --against fedavg\n"
    "  strata compare --report runs/permfl-*-seed0 runs/fedavg-*-seed0 --target common"
)
TARGET = (
    "also tabulate the rounds, virtual time, bytes and FLOPs until a target, by the first evaluated round at or above "
    "it, of the most personal kind of model: an accuracy (0..1); common, the highest that all converging methods reach "
    "(one whose best, mean over the seeds, stays more than 10 points below the best method's is left out); or the best "
    "accuracy of a method. common and METHOD are taken seed by seed"
)


def add(parser: ArgumentParser) -> None:
    """Declare the methods and settings, or the runs, and what is asked of the report."""
    parser.add_argument("words", nargs="*", metavar="METHOD|METHOD:key=value,…|key=value")
    parser.add_argument("--against", action="append", default=[], metavar="METHOD", help="columns relative to this one")
    parser.add_argument("--target", metavar="ACCURACY|common|METHOD", help=TARGET)
    parser.add_argument(
        "--wall", action="store_true", help="also tabulate wall time and memory, which differ between equal runs"
    )
    parser.add_argument("--report", nargs="+", type=Path, metavar="RUN_DIR", help="of these runs, without training")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="folder for report.html, results (md, csv, tex) and plots"
    )
    parser.add_argument("--svg", type=Path, help="also save what the terminal showed as an SVG picture")


def act(arguments: Namespace) -> int:
    """Train and report, or only report; returns the exit code."""
    with recording(arguments.svg) as console:
        if not arguments.report:
            begin_ray_among(arguments.words)
        with waiting(console, "reading what a comparison takes"), importing():  # torch, pandas and others
            from strata.cluster.commands.contest import ReportOptions, compare_methods, report_runs
        options = ReportOptions(arguments.against, arguments.output, arguments.target, arguments.wall)
        if arguments.report and arguments.words:
            raise StrataError(f"--report reads runs that exist; leave out {' '.join(arguments.words)}.")
        if arguments.report:
            return report_runs(arguments.report, options, console)
        return compare_methods(arguments.words, options, console)
