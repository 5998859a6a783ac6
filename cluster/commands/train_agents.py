"""``strata train-agents``: learn policies without training any federated model."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from strata.cluster.terminal import console
from strata.engine.errors import StrataError

NAME = "train-agents"
HELP = "Train a method's agents in the timing model, without training any federated model."
EXAMPLE = "strata train-agents hapfl --rounds 2000 --output agents-hapfl"


def add(parser: ArgumentParser) -> None:
    """Declare the method, its settings, and how long and where to train."""
    parser.add_argument("source", metavar="METHOD|FILE.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--rounds", type=int, default=2000, help="rounds to learn from (default: 2000); 0: only compare"
    )
    parser.add_argument("--populations", type=int, default=16, help="populations of clients to go round (default: 16)")
    parser.add_argument("--output", type=Path, help="folder for agents and curves (default: runs/agents-METHOD)")


def act(arguments: Namespace) -> int:
    """Train, save and compare; returns 0."""
    for option, value, least in (("--rounds", arguments.rounds, 0), ("--populations", arguments.populations, 1)):
        if value < least:
            raise StrataError(f"{option} {value}: expected at least {least}.")
    from strata.cluster.run.pretraining import train_agents
    from strata.engine.config.load import load_config
    from strata.engine.method.find import short_name

    config = load_config(arguments.source, ["agents.policy=rllib", *arguments.overrides])
    name = short_name(config.algorithm)
    folder = arguments.output or Path(config.output).expanduser() / f"agents-{name}"
    train_agents(config, arguments.rounds, arguments.populations, folder, console())
    return 0
