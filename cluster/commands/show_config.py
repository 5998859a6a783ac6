"""``strata config``: every setting of a run, with its meaning and its range."""

from argparse import ArgumentParser, Namespace

NAME = "config"
HELP = "Print a resolved configuration with comments."
EXAMPLE = "strata config permfl > my.yaml"


def add(parser: ArgumentParser) -> None:
    """Declare the method and what differs from its configuration."""
    parser.add_argument("source", metavar="METHOD|FILE.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value")


def act(arguments: Namespace) -> int:
    """Print the configuration as YAML that can be run; returns 0."""
    from strata.engine.config.load import load_config, to_yaml

    print(to_yaml(load_config(arguments.source, arguments.overrides)), end="")
    return 0
