"""``strata completion``: the script that makes a shell complete commands, options, names and settings."""

from argparse import ArgumentParser, Namespace

NAME = "completion"
HELP = "Print a script that lets bash or zsh complete commands, options, names of methods and settings."
EXAMPLE = (
    "source <(strata completion bash)                                                  # for this shell\n"
    "  strata completion bash > ~/.local/share/bash-completion/completions/strata       # for all\n"
    '  strata completion zsh > "${fpath[1]}/_strata"'
)
SHELLS = ("bash", "zsh")


def add(parser: ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(known=SHELLS)


def act(arguments: Namespace) -> int:
    """Print the script; returns 0."""
    from strata.cluster.completion.scripts import script

    print(script(arguments.shell, arguments.parsers), end="")
    return 0
