"""Who holds what: a table for the terminal, plain numbers for a record, and a picture.

# C clients, K classes, T teams
"""

from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from strata.cluster.report.holdings_plot import plot
from strata.cluster.sinks.fitting import Fitting
from strata.engine.data.coverage import WHAT, coverage
from strata.engine.data.dataset import Dataset, FederatedData
from strata.engine.data.parts import Listed
from strata.engine.data.teams.formation import held_counts

__all__ = ["fitting", "label_entropy_bits", "lines", "plot", "summary", "table"]

ALL_ROWS_UP_TO = 40
FIRST_ROWS = 10
TEAM_ROWS = 20
SHOWN = 20
TARGETS = {
    "regression": "targets: mean ± deviation of the first columns",
    "multi_label": "targets: samples of each of the first labels",
    "next_token": "targets: how many tokens differ",
}
"""How to read the last column where samples have no classes."""
QUANTILES = (("smallest", 0.0), ("25 %", 0.25), ("median", 0.5), ("75 %", 0.75), ("largest", 1.0))


def label_entropy_bits(counts_CK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the entropy of each row's class distribution in bits, ``(C,)``: 0 for one class, log2 K for all alike."""
    shares = counts_CK / np.maximum(counts_CK.sum(axis=1, keepdims=True), 1)
    return np.asarray(-(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1), np.float64) + 0.0


def label_skew(counts_CK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each row's total variation distance to the distribution of all rows together, ``(C,)``, 0..1."""
    shares = counts_CK / np.maximum(counts_CK.sum(axis=1, keepdims=True), 1)
    pooled = counts_CK.sum(axis=0) / max(int(counts_CK.sum()), 1)
    return np.asarray(np.abs(shares - pooled).sum(axis=1) / 2, np.float64)


def fitting(federated: FederatedData) -> Fitting:
    """The clients as :func:`table` has them, with fewer columns where the terminal is narrow; numbers are never cut."""
    left_out = ((), ("entropy", "largest", "targets"), ("entropy", "largest", "targets", "team", "classes"))
    whole = table(federated)
    tables = [copy(whole) for _ in left_out]
    for one, headers in zip(tables, left_out, strict=True):
        one.columns = [column for column in whole.columns if column.header not in headers]
        one.caption = whole.caption if not headers else None
    return Fitting(tables)


def table(federated: FederatedData) -> Table:
    """Tabulate the clients: team, training and test samples, classes held and entropy.

    Up to 40 clients are listed one by one; of more, quantiles over the clients, one row a team (up to 20) and the first
    10 clients.
    """
    many = len(federated.clients) > ALL_ROWS_UP_TO
    by_class = federated.dataset.has_classes
    caption = "entropy of the classes in bits; largest: class:samples" if by_class else TARGETS[federated.dataset.task]
    result = Table(title=_title(federated), caption=caption)
    for header in ("client", "team") if federated.teams else ("client",):
        result.add_column(header, justify="right", no_wrap=True)
    for header in ("train", "test", *(("classes", "entropy") if by_class else ())):
        result.add_column(header, justify="right", no_wrap=True)
    result.add_column("largest" if by_class else "targets", no_wrap=True)
    if not by_class:
        _add_targets(result, federated, FIRST_ROWS if many else ALL_ROWS_UP_TO)
        return result
    counts_CK = held_counts(federated.dataset, federated.clients)
    if many:
        _add_quantiles(result, federated, counts_CK)
        _add_teams(result, federated, counts_CK)
    _add_clients(result, federated, counts_CK[:FIRST_ROWS] if many else counts_CK)
    return result


def lines(federated: FederatedData) -> list[str]:
    """What the table does not say, a line each: names of the classes, who trains or is tested on what alone, remarks.

    Whom it looks at for the second are the first 10,000 clients.
    """
    dataset = federated.dataset
    shown = [f"{label} {name}" for label, name in enumerate(dataset.class_names[:SHOWN])]
    more = f", and {dataset.classes - SHOWN} more" if dataset.classes > SHOWN else ""
    called = {"classification": "classes", "regression": "columns of numbers", "multi_label": "labels"}
    numbered = dataset.task == "regression" and dataset.class_names[0] == "0"  # columns without names
    named = [f"{dataset.classes} {called[dataset.task]}: {', '.join(shown)}{more}"] if shown and not numbered else []
    train, test = len(federated.server.train), len(federated.server.test)
    served = [f"servers hold {train} samples to train on, and {test} to test on, which no client has"]
    return [*named, *(served if train or test else []), *_one_sided(federated), *dataset.remarks.notes]


def _one_sided(federated: FederatedData) -> Iterator[str]:
    """Who trains on a class that is in none of its test samples, and who is tested on one that it never trains on."""
    for side_CK, what in zip(coverage(federated).sides, WHAT, strict=True):
        clients = np.flatnonzero(side_CK.any(axis=1))
        listed = [
            f"client {client} on {', '.join(str(label) for label in np.flatnonzero(side_CK[client])[:SHOWN])}"
            for client in clients[:FIRST_ROWS]
        ]
        more = f"; and {len(clients) - FIRST_ROWS} more" if len(clients) > FIRST_ROWS else ""
        if listed:
            yield f"{len(clients)} of {len(side_CK)} clients {what}: {'; '.join(listed)}{more}"


def _title(federated: FederatedData) -> str:
    teams = f", {_counted(len(federated.teams), 'team')}" if federated.teams else ""
    return f"{federated.dataset.name}: {_counted(len(federated.clients), 'client')}{teams}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _team_cell(federated: FederatedData, text: str) -> list[str]:
    return [text] if federated.teams else []


def _sizes(federated: FederatedData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and test samples of each client, ``(C,)`` each."""
    rows = Listed.of(federated.clients)
    return rows.train_sizes.astype(np.int64), rows.test_sizes.astype(np.int64)


def _add_quantiles(result: Table, federated: FederatedData, counts_CK: NDArray[np.int64]) -> None:
    train, test = _sizes(federated)
    held, entropy = (counts_CK > 0).sum(axis=1), label_entropy_bits(counts_CK)
    for name, q in QUANTILES:
        cells = [f"{np.quantile(values, q):.0f}" for values in (train, test, held)]
        result.add_row(name, *_team_cell(federated, ""), *cells, f"{np.quantile(entropy, q):.2f}", "")
    result.add_section()


def _add_teams(result: Table, federated: FederatedData, counts_CK: NDArray[np.int64]) -> None:
    if not federated.teams:
        return
    train, test = _sizes(federated)
    for team, members in list(federated.teams.items())[:TEAM_ROWS]:
        rows = list(members)
        counts_K = counts_CK[rows].sum(axis=0)
        numbers = [str(train[rows].sum()), str(test[rows].sum())]
        result.add_row(f"{len(rows)} clients", str(team), *numbers, *_holding_cells(counts_K))
    if len(federated.teams) > TEAM_ROWS:
        result.add_row("...", f"+{len(federated.teams) - TEAM_ROWS}")
    result.add_section()


def _add_clients(result: Table, federated: FederatedData, counts_CK: NDArray[np.int64]) -> None:
    """Add the first clients, as many as there are counts."""
    team_of = {client: team for team, members in federated.teams.items() for client in members}
    shown = federated.clients[: len(counts_CK)]
    for client, (data, counts_K) in enumerate(zip(shown, counts_CK, strict=True)):
        team = _team_cell(federated, str(team_of.get(client, "")))
        result.add_row(str(client), *team, str(len(data.train)), str(len(data.test)), *_holding_cells(counts_K))
    if len(shown) < len(federated.clients):
        result.add_row("...")


def _add_targets(result: Table, federated: FederatedData, first: int) -> None:
    """Add the first clients with what their targets are like, where these are no classes."""
    team_of = {client: team for team, members in federated.teams.items() for client in members}
    for client, data in enumerate(federated.clients[:first]):
        held = federated.dataset.y[np.concatenate([data.train, data.test])]
        team = _team_cell(federated, str(team_of.get(client, "")))
        told = _told(held, federated.dataset)
        result.add_row(str(client), *team, str(len(data.train)), str(len(data.test)), told)
    if first < len(federated.clients):
        result.add_row("...")


def _told(held: NDArray[np.generic], dataset: Dataset) -> str:
    """What targets of a client are like, in a cell."""
    if dataset.task == "regression":
        spreads = zip(held.mean(axis=0)[:3], held.std(axis=0)[:3], strict=True)
        return ", ".join(f"{mean:.3g} ± {deviation:.3g}" for mean, deviation in spreads)
    if dataset.task == "multi_label":
        counts = held.sum(axis=0, dtype=np.int64)[:3]
        return " ".join(f"{label}:{count}" for label, count in enumerate(counts))
    return str(len(np.unique(held)))


def _holding_cells(counts_K: NDArray[np.int64]) -> list[str]:
    """Cells of a holding: classes held, entropy in bits, and ``class:samples`` of the largest three."""
    largest = [int(label) for label in np.argsort(-counts_K, kind="stable")[:3] if counts_K[label]]
    held = int((counts_K > 0).sum())
    listed = " ".join(f"{label}:{counts_K[label]}" for label in largest)
    return [str(held), f"{label_entropy_bits(counts_K[None])[0]:.2f}", listed]


def summary(federated: FederatedData) -> dict[str, float]:
    """Return the federation in plain numbers.

    ``samples_unused`` are rows that no client holds. ``label_skew_*`` is the mean total variation distance (0..1) of
    clients', or teams', class distributions to that of all together. ``team_*`` keys exist with a team tier only.
    """
    counts_CK = held_counts(federated.dataset, federated.clients)
    train, test = _sizes(federated)
    held, entropy = (counts_CK > 0).sum(axis=1), label_entropy_bits(counts_CK)
    result: dict[str, float] = {
        "clients": len(federated.clients),
        "teams": len(federated.teams),
        "classes": federated.dataset.group_count,
        "samples": len(federated.dataset.y),
        "samples_unused": len(federated.dataset.y) - int(counts_CK.sum()),
        "train_samples": int(train.sum()),
        "test_samples": int(test.sum()),
        **_spread("train_samples", train),
        **_spread("test_samples", test),
        **_spread("classes_held", held),
        "entropy_bits_mean": float(entropy.mean()),
        "label_skew_clients": float(label_skew(counts_CK).mean()),
    }
    if federated.teams:
        teams_TK = np.stack([counts_CK[list(members)].sum(axis=0) for members in federated.teams.values()])
        result |= _spread("team_clients", np.array([len(members) for members in federated.teams.values()]))
        result["label_skew_teams"] = float(label_skew(teams_TK).mean())
    return result


def _spread(name: str, values: Sequence[int] | NDArray[np.int64]) -> dict[str, float]:
    """Smallest, median, mean and largest of some values, under names that begin with ``name``."""
    numbers = np.asarray(values)
    return {
        f"{name}_min": int(numbers.min()),
        f"{name}_median": float(np.median(numbers)),
        f"{name}_mean": float(numbers.mean()),
        f"{name}_max": int(numbers.max()),
    }
