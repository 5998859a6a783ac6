"""A comparison as GitHub Markdown, so that pages of results can be put together from it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from strata.cluster.report.comparison import MEASURED, Comparison

RESULTS = "results.md"

# What Markdown would take for markup; an underscore only where it is not within a word.
MARKUP = re.compile(r"[\\`*\[\]<>|&$~]|(?<!\w)_|_(?!\w)")


def write_results(comparison: Comparison, folder: Path) -> Path:
    """Write ``results.md`` into a folder, which is made if it is missing; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RESULTS
    path.write_text(results(comparison), encoding="utf8")
    return path


def results(comparison: Comparison) -> str:
    """The setting, the command and the tables; accuracies in per cent, mean ± sample standard deviation."""
    parts = [
        escaped(comparison.setting),
        _fenced(comparison.command),
        "After the last round:",
        table(comparison.headings, comparison.rows),
    ]
    if comparison.further:
        parts += ["Of single clients and classes:", table(comparison.further.headings, comparison.further.rows)]
    if comparison.measured:
        heading = f"{MEASURED[0].upper()}{MEASURED[1:]}:"
        parts += [heading, table(comparison.measured.headings, comparison.measured.rows)]
    if comparison.failures:
        parts += ["Failed, and left out:", table(["run", "why"], [list(pair) for pair in comparison.failures.items()])]
    if found := comparison.targets:
        parts += [f"Cost {escaped(found.title)}", table(found.headings, found.rows), escaped(found.caption)]
    return "\n\n".join(parts) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's Markdown: its first column to the left, the others to the right."""
    sides = [":--", *["--:"] * (len(headings) - 1)]
    lines = [list(map(escaped, headings)), sides, *(list(map(escaped, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """A text in one line, in which nothing is markup."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _fenced(command: str) -> str:
    """A block of code, with a fence longer than any run of backticks within."""
    longest = max((len(run) for run in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{command}\n{fence}"
