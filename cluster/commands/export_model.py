"""``strata export``: the weights of a model of a run, as a safetensors file."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from strata.cluster.places import require_file
from strata.cluster.terminal import console
from strata.engine.errors import StrataError

NAME = "export"
HELP = "Write the weights of a run's model (of a client, a team, or the global one) as a safetensors file."
EXAMPLE = "strata export runs/permfl-20260101-120000-seed0 --client 3 model.safetensors"
SUFFIX = ".safetensors"


def add(parser: ArgumentParser) -> None:
    """Declare the folder of the run, whose model, and the file."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--client", type=int, metavar="ID", help="the personal model of this client")
    whose.add_argument("--team", type=int, metavar="ID", help="the model of this team")
    whose.add_argument("--global", dest="of_server", action="store_true", help="the global model")
    parser.add_argument("path", type=Path, metavar=f"FILE{SUFFIX}")


def act(arguments: Namespace) -> int:
    """Write the file; returns 0.

    Raises:
        StrataError: at the beginning, where the file cannot be written, or its name does not say what it is.
    """
    if arguments.path.suffix != SUFFIX:
        raise StrataError(f"{arguments.path}: expected a name that ends in {SUFFIX}.")
    require_file(NAME, arguments.path)
    from strata.cluster.notebook.handle import load_run
    from strata.cluster.notebook.weights import export

    run = load_run(arguments.run_dir)
    if arguments.client is not None:
        served, of = run.served_client(arguments.client), f"client {arguments.client}"
    elif arguments.team is not None:
        served, of = run.served_team(arguments.team), f"team {arguments.team}"
    else:
        served, of = run.served_global(), "the global server"
    export(run, served, of, arguments.path)
    values = sum(value.numel() for value in served.params.values())
    console().print(f"{arguments.path}: {served.kind} of {of}, {values:,} values", markup=False, soft_wrap=True)
    return 0
