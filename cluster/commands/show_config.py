"""``strata config``: every setting of a run, with its meaning and its range."""

from argparse import ArgumentParser, Namespace

NAME = "config"
HELP = "Print a resolved configuration with comments."
EXAMPLE = "strata config permfl > my.yaml\n  strata config permfl clients"


def add(parser: ArgumentParser) -> None:
    """Declare the method and what differs from its configuration."""
    parser.add_argument("source", metavar="METHOD|FILE.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="GROUP|key=value", help="a group or key to print alone; what differs"
    )


def act(arguments: Namespace) -> int:
    """Print the configuration, or parts of it, as YAML that can be run; returns 0."""
    from strata.engine.config.load import load_config, to_yaml

    parts = [word for word in arguments.overrides if "=" not in word]
    config = load_config(arguments.source, [word for word in arguments.overrides if "=" in word])
    print("".join(to_yaml(config, part) for part in parts or [""]), end="")
    return 0
