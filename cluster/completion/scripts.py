"""Scripts that make a shell complete what is typed after ``strata``."""

from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from strata.cluster.completion.vocabulary import vocabulary

FOLDER = Path(__file__).parent / "templates"


def script(shell: str, parsers: Mapping[str, ArgumentParser]) -> str:
    """The script of a shell, ``bash`` or ``zsh``, for commands with these parsers, by name."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=False,  # no HTML: names, keys and options, of letters that mean nothing to a shell
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="<#",  # {# is a shell's: ${#array[@]}
        comment_end_string="#>",
    )
    return environment.get_template(f"completion.{shell}").render(known=vocabulary(parsers))
