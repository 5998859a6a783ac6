"""Client calls for tests: tables from a few columns, and rows of a table."""

from types import SimpleNamespace

import numpy as np

from strata.engine.method.calls import KINDS, LATE, LOST, OK, PLAIN, CallTable
from strata.engine.method.situation import Report


def call_rows(table):
    """The calls of a table one by one, with the names of its columns as attributes."""
    seconds = table.total_s.tolist()
    return [SimpleNamespace(**row, total_s=total_s) for row, total_s in zip(table.rows(), seconds, strict=True)]


def table(client, completed=None, lost=None, metrics=None, **columns):
    """A table of calls of the given clients; what is not given is 0, and every call counted."""
    n = len(client)
    made = {name: np.zeros(n, kind) for name, kind in zip(PLAIN, KINDS, strict=True)}
    made["status"] = np.full(n, OK, np.int8)
    if completed is not None:
        made["status"][~np.asarray(completed)] = LATE
    if lost is not None:
        made["status"][np.asarray(lost)] = LOST
    made |= {"client": np.asarray(client, np.int64), **columns}
    return CallTable(**made, metrics=metrics or {})


def report(client, round_s=1.0, straggling_s=0.0, accuracy=None, gain=0.0, **columns):
    """A report of the calls of :func:`table`."""
    return Report(table(client, **columns), round_s, straggling_s, accuracy, gain)
