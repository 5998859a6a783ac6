"""Files for KubeRay: a RayJob, which ends with its run, or a RayCluster, which stays."""

from argparse import ArgumentParser, Namespace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from strata.cluster.launch.checks import at_least, label, plain

if TYPE_CHECKING:
    from strata.cluster.launch.job import Job

HELP = "A RayJob or RayCluster for KubeRay on Kubernetes."
FILE = "{name}.yaml"
DAY_S = 86400


def add(parser: ArgumentParser) -> None:
    """Declare the image, the secrets, and how large and how long-lived things are."""
    parser.add_argument("--image", required=True, help="image with Strata, e.g. of `strata launch docker`")
    parser.add_argument("--standing", action="store_true", help="a RayCluster that stays, instead of a RayJob")
    parser.add_argument("--memory", type=int, default=8, help="GiB of each pod (default: 8)")
    parser.add_argument("--storage", type=int, default=10, help="GiB for the runs' folders (default: 10)")
    parser.add_argument("--deadline", type=int, default=DAY_S, help="seconds after which a job ends (default: a day)")
    parser.add_argument("--retries", type=int, default=2, help="times that a failed job goes on (default: 2)")
    parser.add_argument("--token-secret", default="strata-ray-token", help="secret with Ray's token, as auth_token")
    parser.add_argument("--wandb-secret", default="", help="secret with W&B's key, as api_key")


def fill(job: "Job", arguments: Namespace) -> tuple[str, dict[str, object]]:
    """The template, and what it needs beside the job.

    Raises:
        ConfigError: for an option that is wrong.
    """
    return "raycluster.yaml" if arguments.standing else "rayjob.yaml", {
        "image": plain("--image", arguments.image),
        "memory_gib": at_least("--memory", arguments.memory, 1),
        "storage_gib": at_least("--storage", arguments.storage, 1),
        "deadline_s": at_least("--deadline", arguments.deadline, 1),
        "retries": at_least("--retries", arguments.retries, 0),
        "token_secret": label("--token-secret", arguments.token_secret),
        "wandb_secret": arguments.wandb_secret and label("--wandb-secret", arguments.wandb_secret),
        "ray_version": version("ray"),
    }


def following(job: "Job", path: Path, arguments: Namespace) -> str:
    """What to type next."""
    token = "--from-literal=auth_token=\"$(python -c 'import secrets; print(secrets.token_hex(32))')\""
    lines = [f"kubectl create secret generic {arguments.token_secret} {token}"]
    if arguments.wandb_secret:
        lines.append(f"kubectl create secret generic {arguments.wandb_secret} --from-file=api_key=FILE_WITH_THE_KEY")
    after = "then the last lines of the file's heading" if arguments.standing else f"kubectl get rayjob {job.name}"
    return "\n".join([*lines, f"kubectl apply -f {path}", after])
