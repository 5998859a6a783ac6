"""The ``strata`` command: its parser, and how errors and warnings are shown."""

import argparse
import os
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TextIO

from strata.cluster.commands import (
    calibrate,
    check_method,
    compare_methods,
    complete_words,
    export_model,
    fetch_data,
    launch_run,
    list_methods,
    run_method,
    show_architectures,
    show_config,
    show_data,
    sweep_settings,
    train_agents,
)
from strata.cluster.early import settings_among
from strata.cluster.terminal import errors, replace_unprintable
from strata.engine.errors import StrataError, StrataWarning

DESCRIPTION = "Simulate personalised, heterogeneous, multi-tier federated learning."

EXAMPLES = """
examples:
  strata run permfl                                   PerMFL at its published setting, on the data that ship with Strata
  strata run permfl rounds=20 seed=3 seeds=[1,2,3]    fewer rounds; several seeds give mean ± std
  strata run fedavg data=fashion_mnist partition=dirichlet partition.alpha=0.1
  strata run permfl clients.num_gpus=0.1              ten clients share a GPU and its memory
  strata run permfl runtime=inprocess                 without Ray, for a debugger
  strata run permfl ray.address=auto                  on a Ray cluster that runs already
  strata run permfl --profile                         say where the wall seconds of the rounds went
  strata run my.yaml                                  a file of your own: `algorithm: permfl` and what differs
  strata run resume=runs/permfl-20260101-120000-seed0 continue after Ctrl-C, a crash or a kill
  strata compare permfl hsgd fedavg rounds=20         several methods on the same clients, in one table
  strata sweep fedprox method.mu=0.01,0.1 seeds=[0,1] one method under many settings, side by side
  strata train-agents hapfl --rounds 2000             learn policies without training models; then
  strata run hapfl agents.checkpoint=runs/agents-hapfl/agents agents.mode=freeze
  strata launch slurm permfl --nodes 3 --cpus 16      write the file that makes a run elsewhere: slurm, kuberay, ray-up
  strata check mypackage.mymethod                     whether a method of your own does what runs rest on
  strata calibrate --name my_laptop --like laptop     measure this machine; a device class for delays.devices
  strata architectures runs/perfedrlnas-20260101-120000-seed0   which architectures its clients ended with
  strata export runs/permfl-20260101-120000-seed0 --client 3 model.safetensors   the weights of a model
  strata data partition=dirichlet --plot who.png      who holds what
  strata fetch mnist cifar10                          download public data sets, with checksums
  strata config permfl                                every setting, with its meaning and its range
"""

SETTINGS = "Settings are written key=value; `strata config NAME` lists them all."


class Command(Protocol):
    """What a module of :mod:`strata.cluster.commands` holds."""

    NAME: str
    HELP: str
    EXAMPLE: str

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments of the command."""

    def act(self, arguments: argparse.Namespace) -> int:
        """Do what the command is for; returns the exit code."""


COMMANDS: Sequence[Command] = (
    run_method,
    compare_methods,
    sweep_settings,
    train_agents,
    launch_run,
    check_method,
    calibrate,
    show_architectures,
    export_model,
    show_data,
    fetch_data,
    show_config,
    list_methods,
    complete_words,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 failed, 2 wrong usage, 130 interrupted)."""
    _show_warnings_briefly()
    replace_unprintable()
    # Pictures go to files. The shell of a notebook names a backend of its own, which need not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    parsed = _parse(_parser(), arguments)
    shown = errors()
    try:
        _find_own(_here())
        _require_once(parsed)
        code: int = parsed.act(parsed)
        return code
    except StrataError as error:
        shown.print("[bold red]error:[/]", end=" ")
        shown.print(str(error), markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        shown.print("stopped; the last checkpoint can be resumed.")
        return 130
    except BrokenPipeError:
        return 1
    except Exception:
        traceback.print_exc()
        shown.print("This is a defect in Strata or in a method of your own, not in your configuration.")
        return 1


def _require_once(parsed: argparse.Namespace) -> None:
    """Refuse a setting that is given twice; those of one entry of a comparison are looked at there."""
    words = [getattr(parsed, "source", ""), *getattr(parsed, "words", getattr(parsed, "overrides", []))]
    settings = settings_among(words)
    if settings[1:]:
        from strata.engine.config.written import require_once

        require_once(settings)


def _here() -> str:
    """The folder one stands in.

    Raises:
        StrataError: where it is gone.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise StrataError("the folder that this shell stands in was deleted. Change to another with cd.") from None


def _find_own(here: str) -> None:
    """Let methods and models of the folder one stands in be found; last, so that they hide nothing."""
    if here not in sys.path:
        sys.path.append(here)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options and settings in any order: argparse itself refuses settings that come after an option."""
    parsed, rest = parser.parse_known_args(arguments)
    words = getattr(parsed, "words", getattr(parsed, "overrides", None))
    if words is None:
        return parser.parse_args(arguments)
    if unknown := next((word for word in rest if word.startswith("-")), None):
        key, _, value = unknown.strip("-").replace("-", "_").partition("=")
        parser.error(
            f"{unknown}: no such option. Settings are written key=value, without dashes: {key}={value or '…'}; options "
            "are told by --help."
        )
    words.extend(rest)
    return parsed


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="strata", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"strata {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        told = textwrap.fill(command.HELP, shutil.get_terminal_size().columns - 2)
        words = commands.add_parser(command.NAME, help=command.HELP, description=told, formatter_class=raw)
        command.add(words)
        settings = f"\n\n{SETTINGS}" if "key=value" in words.format_usage() else ""
        words.epilog = f"example:\n  {command.EXAMPLE}{settings}"
        words.set_defaults(act=command.act, parsers=commands.choices)  # the latter for `completion`
    return parser


def _version() -> str:
    try:
        return version("strata-fl")
    except PackageNotFoundError:
        return "not installed"


def _show_warnings_briefly() -> None:
    """Show Strata's own warnings as a line without file and line number; others as Python does."""
    plain = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, StrataWarning):
            errors().print(f"warning: {message}", markup=False, soft_wrap=True)
        else:
            plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show


if __name__ == "__main__":
    sys.exit(main())
