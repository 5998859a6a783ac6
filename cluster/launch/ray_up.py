"""Files for Ray's cluster launcher: machines of a cloud, or of your own."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from strata.cluster.launch.checks import plain, plain_or_none
from strata.engine.errors import ConfigError

if TYPE_CHECKING:
    from strata.cluster.launch.job import Job

HELP = "A file for Ray's cluster launcher (ray up), on AWS or machines of your own."
FILE = "{name}.ray.yaml"
NEEDED = {"local": ("head", "user", "ssh_key", "venv"), "aws": ("image", "region", "instance")}


def add(parser: ArgumentParser) -> None:
    """Declare the machines, and the secrets that are copied to them."""
    parser.add_argument("--provider", choices=tuple(NEEDED), default="local", help="AWS, or machines of your own")
    parser.add_argument("--head", default="", help="local: address of the first machine")
    parser.add_argument("--workers", default="", help="local: addresses of the others, comma separated")
    parser.add_argument("--user", default="", help="local: SSH's user on all of them")
    parser.add_argument("--ssh-key", default="~/.ssh/id_ed25519", help="local: SSH's key (default: ~/.ssh/id_ed25519)")
    parser.add_argument(
        "--venv", default=sys.prefix, help="local: Python environment on all of them (default: as here)"
    )
    parser.add_argument("--image", default="", help="aws: image with Strata")
    parser.add_argument("--region", default="eu-central-1", help="aws: region (default: eu-central-1)")
    parser.add_argument("--instance", default="m6i.xlarge", help="aws: type of machine (default: m6i.xlarge)")
    parser.add_argument("--token-secret", default="~/.ray/auth_token", help="file with Ray's token, copied to all")
    parser.add_argument("--wandb-secret", default="", help="netrc file with W&B's key, copied to the head")


def fill(job: "Job", arguments: Namespace) -> tuple[str, dict[str, object]]:
    """The template, and what it needs beside the job.

    Raises:
        ConfigError: for an option that is wrong or missing.
    """
    settings: dict[str, object] = {
        "token_secret": plain("--token-secret", arguments.token_secret),
        "wandb_secret": plain_or_none("--wandb-secret", arguments.wandb_secret),
    }
    for name in NEEDED[arguments.provider]:
        option = f"--{name.replace('_', '-')}"
        if not getattr(arguments, name):
            raise ConfigError(f"{option}: expected with --provider {arguments.provider}, and not given.")
        settings[name] = plain(option, getattr(arguments, name))
    if arguments.provider == "aws":
        return "aws.yaml", settings
    workers = [plain("--workers", worker) for worker in arguments.workers.split(",") if worker]
    if len(workers) != job.nodes - 1:
        raise ConfigError(
            f"--workers: {len(workers)} addresses, expected {job.nodes - 1} beside the head's. Set --nodes accordingly."
        )
    return "onpremise.yaml", {**settings, "workers": workers}


def following(job: "Job", path: Path, arguments: Namespace) -> str:
    """What to type next."""
    token = f"test -e {arguments.token_secret} || ray get-auth-token --generate"
    return f"{token}\nray up {path}\nthen the other lines of the file's heading"
