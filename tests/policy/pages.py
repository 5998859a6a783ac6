"""Rules about the pages for people: their commands parse, their links lead somewhere."""

import ast
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

from strata import engine
from strata.cluster.cli import _parse, _parser, _require_once
from strata.cluster.entries import resolve
from strata.cluster.sweep.grid import trials_of
from strata.engine.config.load import load_config
from strata.engine.errors import StrataWarning
from tests.policy.source import PACKAGES, ROOT

ROOM_PAGES = [f"{folder}/README.md" for folder in (*PACKAGES, "tests")]
LAUNCHES = "cluster/launch/README.md"
PAGES = ["README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md", LAUNCHES, *ROOM_PAGES]
RESUMED = re.compile(r"resume=|.*\.yaml$")  # of a run or file that the reader has


def commands(page: str, root: Path = ROOT) -> list[str]:
    """What the page tells people to type after ``strata``."""
    return re.findall(r"^strata (.+)$", (root / page).read_text(encoding="utf8"), re.MULTILINE)


def programs(page: str = "README.md", root: Path = ROOT) -> list[str]:
    """The page's Python programs."""
    return re.findall(r"```python\n(.+?)```", (root / page).read_text(encoding="utf8"), re.DOTALL)


def deep_imports(program: str) -> list[str]:
    """What a program takes from a module within the engine, although the engine itself exports it."""
    within = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.ImportFrom)]
    named = [(node.module or "", name.name) for node in within for name in node.names]
    return [f"{home}.{name}" for home, name in named if home.startswith("strata.engine.") and name in engine.__all__]


def check_command(command: str) -> None:
    """Parse a command, and its configuration where it has one; raises what the command line would."""
    words = shlex.split(command, comments=True)
    parsed = _parse(_parser(), words)
    _require_once(parsed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StrataWarning)  # lambda_team=20 is outside the theorems, and says so
        if words[0] == "compare" and not parsed.report:
            resolve(parsed.words)
        elif words[0] == "launch" and parsed.kind != "docker":
            load_config(parsed.source, parsed.overrides)
        elif words[0] == "sweep" and not RESUMED.match(words[1]):
            trials_of(parsed.source, parsed.overrides, parsed.samples)
        elif words[0] in ("run", "config", "train-agents") and not RESUMED.match(words[1]):
            load_config(words[1], [word for word in words[2:] if "=" in word])


def dead_links(page: str, root: Path = ROOT) -> Iterator[str]:
    """Relative links of the page to what is not there."""
    for link in re.findall(r"\]\(([^)#\s]+)", (root / page).read_text(encoding="utf8")):
        if "://" not in link and not (root / page).parent.joinpath(link).exists():
            yield link
