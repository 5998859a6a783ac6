"""Methods run one after the other in one setting, and reports about them or about runs that exist already."""

import math
import shlex
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from strata.cluster.entries import describe_setting, require_one_setting, resolve
from strata.cluster.places import fresh_folder, require_folder
from strata.cluster.report.comparison import Comparison, Sheet, measured
from strata.cluster.report.delivery import deliver
from strata.cluster.report.results import Contestant, grouped, read_run
from strata.cluster.report.settings import entering, in_common
from strata.cluster.report.targets import Goal, goal_of, reach
from strata.cluster.run.recovery import INTERRUPTED
from strata.cluster.run.runner import on_one_ray, run_all
from strata.cluster.sinks.display import display_for, failures_table
from strata.engine.config.load import to_dict
from strata.engine.config.schema import RunConfig
from strata.engine.config.tracking import TrackingConfig
from strata.engine.errors import ConfigError, StrataWarning
from strata.engine.suggest import closest


@dataclass(frozen=True)
class ReportOptions:
    """What the user asked of a report.

    Attributes:
        against: labels; the first is the baseline of the relative columns.
        output: its folder; None for a fresh one.
        target: an accuracy, ``common`` or a label, for the table of what it took; see
        :mod:`strata.cluster.report.targets`.
        wall: whether wall seconds and memory are reported, which differ between equal runs.
    """

    against: Sequence[str] = ()
    output: Path | None = None
    target: str | None = None
    wall: bool = False

    def goal(self, labels: Sequence[str], is_share: bool) -> Goal | None:
        """The target, if any; ``is_share``: whether what methods are compared by is one, such as an accuracy.

        Raises:
            ConfigError: when it is no accuracy and none of the labels.
        """
        return None if self.target is None else goal_of(self.target, labels, 1.0 if is_share else math.inf)

    def baseline(self, labels: Sequence[str]) -> str | None:
        """The label that the relative columns refer to, if any.

        Raises:
            ConfigError: when it is not among the labels.
        """
        for label in self.against:
            if label not in labels:
                hint = closest(label, labels)
                raise ConfigError(f"--against {label}: expected one of those compared: {', '.join(labels)}.{hint}")
        return self.against[0] if self.against else None

    def command(self, *words: str) -> str:
        """What to type for the same report, wherever it is written to."""
        against = [part for label in self.against for part in ("--against", label)]
        target = ["--target", self.target] if self.target is not None else []
        return shlex.join(["strata", "compare", *words, *against, *target, *["--wall"] * self.wall])

    def measured(self, contestants: Sequence[Contestant]) -> Sheet | None:
        """The table of wall seconds and memory, if any."""
        return measured(contestants) if self.wall else None

    def folder(self, parent: Path) -> Path:
        """Where the report goes: as it was asked for, else a fresh folder of its own in ``parent``."""
        return self.output or fresh_folder(parent / f"compare-{time.strftime('%Y%m%d-%H%M%S')}")


def compare_methods(words: Sequence[str], options: ReportOptions, console: Console) -> int:
    """Run methods in one setting and report; returns the exit code.

    Args:
        words: ``METHOD``, ``METHOD:key=value,key=value…`` and ``key=value``; the first method gives the setting.
        options: what is asked of the report.
        console: where to show it.

    Raises:
        StrataError: before anything runs, for anything wrong with words, settings or folders.
    """
    configs, remarks = resolve(words)
    labels = list(configs)
    is_share = next(iter(configs.values())).data.task != "regression"
    baseline, goal = options.baseline(labels), options.goal(labels, is_share)
    first = configs[labels[0]]
    require_folder(options.output or Path(first.output).expanduser())
    setting = describe_setting(to_dict(first), first.seeds or [first.seed])
    _say(console, f"one setting, that of {labels[0]}: {setting}", *remarks)
    with on_one_ray(configs.values()):
        contestants, failures, code = _run_each(configs, console)
    if code == INTERRUPTED or not contestants:
        if done := [str(run.run_dir) for one in contestants for run in one.runs]:
            _say(console, f"For a report about what is done: {shlex.join(['strata', 'compare', '--report', *done])}")
        if failures:
            console.print(failures_table(failures))
        return code
    left = [one.label for one in contestants]
    if baseline not in (None, *left):
        _warn(f"--against {baseline}: all of its runs failed, so there are no columns relative to it.")
        baseline = None
    if goal and goal.text in labels and goal.text not in left:
        _warn(f"--target {goal.text}: all of its runs failed, so there is no table of what it took.")
        goal = None
    folder = options.folder(Path(first.output).expanduser())
    targets = reach(goal, contestants) if goal else None
    wall = options.measured(contestants)
    comparison = Comparison(contestants, baseline, setting, options.command(*words), targets, failures, wall)
    deliver(comparison, folder, first.tracking, console)
    return code


def _run_each(configs: Mapping[str, RunConfig], console: Console) -> tuple[list[Contestant], dict[str, str], int]:
    """Run methods one after the other, until one is interrupted.

    Returns:
        What has runs that are done; why others failed, by label and seed; the exit code of the worst.
    """
    contestants: list[Contestant] = []
    failures: dict[str, str] = {}
    code = 0
    for label, config in configs.items():
        console.rule(Text(label))
        summaries = run_all(config, display_for(console))
        done = [summary for summary in summaries if not summary.exit_code]
        if done:
            contestants.append(Contestant(label, [read_run(summary.run_dir) for summary in done]))
        for seed, summary in zip(config.seeds or [config.seed], summaries, strict=False):
            if summary.failure:
                failures[f"{label}, seed {seed}"] = str(summary.failure)
        code = max(code, *(summary.exit_code for summary in summaries))
        if code == INTERRUPTED:
            break
    return contestants, failures, code


def report_runs(run_dirs: Sequence[Path], options: ReportOptions, console: Console) -> int:
    """Report about runs that exist, without training; returns the exit code.

    Args:
        run_dirs: their folders; runs that differ in nothing but the seed are one row.
        options: what is asked of the report.
        console: where to show it.

    Raises:
        StrataError: when a folder holds no run, or the runs are not of one setting.
    """
    runs = [read_run(run_dir) for run_dir in run_dirs]
    require_one_setting(in_common({str(run.run_dir): run.config for run in runs}, entering))
    contestants = grouped(runs)
    labels = [one.label for one in contestants]
    baseline, goal = options.baseline(labels), options.goal(labels, contestants[0].headline.is_share)
    parent = run_dirs[0].resolve().parent  # also of "."
    require_folder(options.output or parent)
    _warn_about_gaps(contestants)
    setting = describe_setting(runs[0].config, sorted({run.seed for run in runs}))
    _say(console, f"one setting: {setting}")
    command = options.command("--report", *map(str, run_dirs))
    targets, wall = reach(goal, contestants) if goal else None, options.measured(contestants)
    comparison = Comparison(contestants, baseline, setting, command, targets, measured=wall)
    deliver(comparison, options.folder(parent), TrackingConfig(**runs[0].config["tracking"]), console)
    return 0


def _warn_about_gaps(contestants: Sequence[Contestant]) -> None:
    """Runs that are not finished and seeds that are not there: nobody should find that out from a plot."""
    for run in (run for one in contestants for run in one.runs):
        if len(run.rounds) < run.config["rounds"]:
            _warn(f"{run.run_dir}: {len(run.rounds)} of {run.config['rounds']} rounds are done.")
    seeds = {one.label: sorted(run.seed for run in one.runs) for one in contestants}
    if len({tuple(found) for found in seeds.values()}) > 1:
        _warn(f"the seeds differ: {'; '.join(f'{label} {found}' for label, found in seeds.items())}.")


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _warn(text: str) -> None:
    warnings.warn(text, StrataWarning, stacklevel=3)
