"""Templates of launch files, filled in for a job and written where nothing lies yet."""

import json
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from strata.cluster.launch.job import Job
from strata.engine.errors import ConfigError, StrataError

FOLDER = Path(__file__).parent / "templates"


def filled(template: str, job: Job | None, settings: Mapping[str, object]) -> str:
    """The text of a template for a job and the settings of its kind of file."""
    return _templates().get_template(template).render(job=job, **settings)


def write(texts: Mapping[Path, str], force: bool) -> None:
    """Write files, all or none.

    Raises:
        ConfigError: where one is there already, unless ``force`` says to replace it.
        StrataError: where one cannot be written.
    """
    if not force and (there := [str(path) for path in texts if path.exists()]):
        raise ConfigError(f"{', '.join(there)}: there already. Choose another with --output, or replace with --force.")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf8")
        except OSError as error:
            raise StrataError(f"--output {path}: it cannot be written: {error}.") from None


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=False,  # no HTML: what a user wrote goes through one of the filters below
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="<#",  # {# is bash: ${#array[@]}
        comment_end_string="#>",
    )
    environment.filters["shell"] = shlex.quote
    environment.filters["quoted"] = json.dumps  # a string of JSON is one of YAML
    return environment
