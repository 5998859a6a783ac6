"""What the runs of a sweep came to: a row for each combination of settings, over its seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from strata.cluster.humanise import humanise_bytes, humanise_flops, humanise_seconds
from strata.cluster.report.results import Contestant, read_run
from strata.cluster.sinks.display import mean_std
from strata.cluster.sinks.views import KINDS
from strata.cluster.sweep.ledger import Sweep

CSV = "sweep.csv"
COLUMNS = {"virtual time": "virtual_s", "bytes": "bytes_total", "FLOPs": "flops_total"}


def outcomes(sweep: Sweep) -> list[tuple[Mapping[str, str], Contestant]]:
    """The finished runs of a sweep by what was set in them, seeds together, in the order of the sweep.

    Raises:
        StrataError: for a run whose folder cannot be read.
    """
    groups: dict[tuple[str, ...], tuple[Mapping[str, str], list[Path]]] = {}
    for one in sweep.entries:
        if one.finished:
            groups.setdefault(tuple(one.values.values()), (one.values, []))[1].append(one.folder)
    return [
        (values, Contestant(", ".join(values.values()), [read_run(folder) for folder in folders]))
        for values, folders in groups.values()
    ]


def table_of(found: Sequence[tuple[Mapping[str, str], Contestant]]) -> Table:
    """The table of a sweep for a terminal; the best mean of the most personal kind of model is bold."""
    kinds, headline = [kind for kind in KINDS if any(one.headlines(kind) for _, one in found)], found[0][1].headline
    table = Table(title="after the last round, mean ± std over the seeds", box=box.SIMPLE_HEAD, title_justify="left")
    for key in found[0][0]:
        table.add_column(Text(key), overflow="fold")
    for heading in ("runs", *kinds, *COLUMNS):
        table.add_column(heading, justify="right")
    means = [float(pd.Series(one.headlines(one.personal)).mean()) for _, one in found]
    for (values, one), mean in zip(found, means, strict=True):
        totals = (humanise_seconds, humanise_bytes, humanise_flops)
        cells = [
            *values.values(),
            str(len(one.runs)),
            *(mean_std(one.headlines(kind), headline) for kind in kinds),
            *(humanise(one.mean(name)) for humanise, name in zip(totals, COLUMNS.values(), strict=True)),
        ]
        best = len(found) > 1 and mean == headline.best(means)
        table.add_row(*map(Text, cells), style="bold" if best else "")
    return table


def write_csv(sweep: Sweep, found: Sequence[tuple[Mapping[str, str], Contestant]]) -> Path:
    """Write what each finished run came to, a line a run: its folder, what was set, its seed; returns the file."""
    lines = [
        {"folder": run.run_dir.name, **values, "seed": run.seed, **run.outcome.to_dict()}
        for values, one in found
        for run in one.runs
    ]
    path = sweep.folder / CSV
    pd.DataFrame(lines).to_csv(path, index=False)
    return path
