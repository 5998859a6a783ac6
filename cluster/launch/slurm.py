"""A batch script for Slurm: Ray on the job's nodes, one run, queued again before its time is over."""

import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from strata.cluster.launch.checks import at_least, plain, plain_or_none
from strata.engine.errors import ConfigError

if TYPE_CHECKING:
    from strata.cluster.launch.job import Job

HELP = "A batch script for Slurm."
FILE = "{name}.slurm"
TIME = re.compile(r"(\d+-)?\d{1,2}:\d{2}:\d{2}")


def add(parser: ArgumentParser) -> None:
    """Declare what Slurm is asked for, and where Python is on the nodes."""
    parser.add_argument("--time", default="08:00:00", help="wall time (default: 08:00:00)")
    parser.add_argument("--grace", type=int, default=120, help="seconds before its end when it saves (default: 120)")
    parser.add_argument("--memory", type=int, default=0, help="GiB of each node (default: the cluster's)")
    parser.add_argument("--partition", default="", help="Slurm's partition")
    parser.add_argument("--account", default="", help="Slurm's account")
    parser.add_argument("--venv", default=sys.prefix, help="Python environment on all nodes (default: this one)")
    parser.add_argument("--wandb-secret", default="", help="file with W&B's key, which only you can read")


def fill(job: "Job", arguments: Namespace) -> tuple[str, dict[str, object]]:
    """The template, and what it needs beside the job.

    Raises:
        ConfigError: for an option that is wrong.
    """
    if not TIME.fullmatch(arguments.time):
        raise ConfigError(f"--time {arguments.time}: expected HH:MM:SS or D-HH:MM:SS.")
    return "slurm.sh", {
        "time": arguments.time,
        "grace_s": at_least("--grace", arguments.grace, 1),
        "memory_gib": at_least("--memory", arguments.memory, 0),
        "partition": plain_or_none("--partition", arguments.partition),
        "account": plain_or_none("--account", arguments.account),
        "environment": plain("--venv", arguments.venv),
        "wandb_secret": plain_or_none("--wandb-secret", arguments.wandb_secret),
    }


def following(job: "Job", path: Path, arguments: Namespace) -> str:
    """What to type next."""
    return f"sbatch {path}    # this folder and {arguments.venv} must lie on a file system of all nodes"
