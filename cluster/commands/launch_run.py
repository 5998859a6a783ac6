"""``strata launch``: write the file that makes a run elsewhere, filled in for it."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from strata.cluster.launch import kuberay, ray_up, slurm

if TYPE_CHECKING:
    from strata.cluster.launch.job import Job

NAME = "launch"
HELP = "Write the file that makes a run on Slurm, Kubernetes or other machines, or that builds an image."
EXAMPLE = "strata launch slurm permfl rounds=200 clients.count=1000 --nodes 3 --cpus 16 --time 04:00:00"
DOCKER = "docker"
DOCKER_HELP = "A Dockerfile of Strata, for CPUs or CUDA by a build argument."


class Kind(Protocol):
    """What a module of a kind of launch file holds; ``{name}`` in ``FILE`` is the job's."""

    HELP: str
    FILE: str

    def add(self, parser: ArgumentParser) -> None:
        """Declare the options of this kind alone."""

    def fill(self, job: "Job", arguments: Namespace) -> tuple[str, dict[str, object]]:
        """The template, and what it needs beside the job; raises a ConfigError for an option that is wrong."""

    def following(self, job: "Job", path: Path, arguments: Namespace) -> str:
        """What to type next, once the file was written to ``path``."""


KINDS: Mapping[str, Kind] = {"slurm": slurm, "kuberay": kuberay, "ray-up": ray_up}


def add(parser: ArgumentParser) -> None:
    """Declare the kinds of files, each with its options."""
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    for name, kind in KINDS.items():
        words = kinds.add_parser(name, help=kind.HELP, description=kind.HELP)
        _add_run(words)
        kind.add(words)
        _add_output(words, kind.FILE.format(name="NAME"))
    parser.set_defaults(kinds=kinds.choices)
    _add_output(kinds.add_parser(DOCKER, help=DOCKER_HELP, description=DOCKER_HELP), "Dockerfile")


def _add_run(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="METHOD|FILE.yaml", help="what to run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="its settings, as for `strata run`")
    parser.add_argument("--nodes", type=int, default=1, help="machines, the head included (default: 1)")
    parser.add_argument("--cpus", type=int, default=4, help="CPUs of each (default: 4)")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each (default: 0)")
    parser.add_argument("--name", default="", help="of the job or cluster (default: strata-METHOD)")


def _add_output(parser: ArgumentParser, default: str) -> None:
    parser.add_argument("--output", type=Path, help=f"the file to write (default: {default})")
    parser.add_argument("--force", action="store_true", help="replace what is there already")


def act(arguments: Namespace) -> int:
    """Write the file and say what to type next; returns 0.

    Raises:
        ConfigError: for a wrong setting or option, or a file that is there already.
    """
    from strata.cluster.launch import docker
    from strata.cluster.launch.filling import filled, write
    from strata.cluster.launch.job import job_for

    if arguments.kind == DOCKER:
        path = arguments.output or Path(docker.FILE)
        texts = docker.texts(path)
        write(texts, arguments.force)
        _tell(texts, docker.following(path))
        return 0
    kind = KINDS[arguments.kind]
    machines = arguments.nodes, arguments.cpus, arguments.gpus
    job = job_for(arguments.source, arguments.overrides, arguments.name, *machines)
    path = arguments.output or Path(kind.FILE.format(name=job.name))
    template, settings = kind.fill(job, arguments)
    write({path: filled(template, job, settings)}, arguments.force)
    _tell([path], kind.following(job, path, arguments))
    return 0


def _tell(paths: Iterable[Path], following: str) -> None:
    print(f"wrote {', '.join(map(str, paths))}; next:")
    print("\n".join(f"  {line}" for line in following.splitlines()))
