"""How clients form teams.

Teams are numbered by their smallest member where the method itself gives them no number, so that a formation does not
depend on the order in which clusters are found.

# C clients, T teams, K classes, D parameters of an update
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.apportion import label_counts
from strata.engine.data.config import FormationConfig
from strata.engine.data.dataset import ClientData, Dataset, IntArray
from strata.engine.data.partition.ownership import read_json_lists
from strata.engine.data.parts import Listed
from strata.engine.data.teams.clusters import cosine_clusters, cosines
from strata.engine.errors import DataError
from strata.engine.seeding import generator

Teams = dict[int, list[int]]


def form_teams(
    dataset: Dataset,
    clients: Sequence[ClientData],
    teams: int,
    config: FormationConfig,
    seed: int,
    updates: Callable[[], NDArray[np.floating]] | None = None,
) -> Teams:
    """Put every client into exactly one team; no team is empty.

    Args:
        dataset: the samples.
        clients: who holds which rows, C clients.
        teams: number of teams T.
        config: the ``teams.formation`` part of the configuration.
        seed: the run's seed.
        updates: makes the clients' model updates ``(C, D)``; ``similarity`` and ``hierarchical`` call it once.

    Returns:
        the members (client ids, ascending) of each team 0..T-1.

    Raises:
        DataError: if there are more teams than clients, a team stays empty, or the method lacks what it needs.
    """
    if not 1 <= teams <= len(clients):
        raise DataError(f"{teams} teams were asked for {len(clients)} clients; expected 1 to {len(clients)} teams.")
    draws = generator(seed, "teams", config.name)
    if config.name == "sequential":
        return _blocks(range(len(clients)), teams)
    if config.name == "random":
        return _blocks(draws.permutation(len(clients)).tolist(), teams)
    if config.name == "file":
        return _from_file(config.path, teams, len(clients))
    if config.name in ("worst", "average", "labels"):
        dataset.require_classes(f"teams.formation.name={config.name}", "sequential, random, similarity or hierarchical")
    if config.name in ("worst", "average"):
        sets = worst_sets(dataset.classes, teams) if config.name == "worst" else average_sets(dataset.classes, teams)
        return by_label_sets(held_counts(dataset, clients), sets, config.name)
    if config.name == "labels":
        proportions = held_counts(dataset, clients).astype(np.float64)
        return _from_labels(cosine_clusters(proportions, teams, draws, balanced=True), teams)
    vectors = _checked_updates(updates, len(clients), config.name)
    if config.name == "similarity":
        return _from_labels(cosine_clusters(vectors, teams, draws, balanced=False), teams)
    return _from_labels(agglomerated(vectors, teams), teams)


def held_counts(dataset: Dataset, clients: Sequence[ClientData]) -> IntArray:
    """Samples of each class that each client holds, ``(C, K)``: training and test rows, not those for validation.

    Without classes all samples are of one.
    """
    return label_counts(dataset.groups, Listed.of(clients).held, dataset.group_count)


def _blocks(order: Iterable[int], teams: int) -> Teams:
    """Teams of clients that follow each other in ``order``, of sizes that differ by at most one."""
    blocks = np.array_split(np.array(list(order)), teams)
    return {team: sorted(int(client) for client in block) for team, block in enumerate(blocks)}


def _from_labels(labels: IntArray, teams: int) -> Teams:
    """Teams from a cluster label per client, numbered by smallest member."""
    groups = sorted(np.flatnonzero(labels == label).tolist() for label in np.unique(labels))
    if len(groups) != teams:
        raise DataError(f"only {len(groups)} of {teams} teams have members. Lower the number of teams.")
    return dict(enumerate(groups))


def _from_file(path: str, teams: int, clients: int) -> Teams:
    listed = read_json_lists(path, "teams.formation.path")
    members = sorted(client for group in listed.values() for client in group)
    if sorted(listed) != list(range(teams)) or not all(listed.values()):
        raise DataError(f"{path} lists the teams {sorted(listed)}, expected 0..{teams - 1}, none of them empty.")
    if members != list(range(clients)):
        wrong = sorted(set(range(clients)) ^ set(members)) or sorted({c for c in members if members.count(c) > 1})
        raise DataError(
            f"{path} must list each client 0..{clients - 1} exactly once; missing, unknown or repeated: {wrong[:10]}."
        )
    return {team: sorted(listed[team]) for team in range(teams)}


def _checked_updates(
    updates: Callable[[], NDArray[np.floating]] | None, clients: int, name: str
) -> NDArray[np.floating]:
    """The clients' model updates ``(C, D)``, made by calling ``updates``.

    Raises:
        DataError: when there is nothing to call, or what it makes is of another shape or not finite.
    """
    if updates is None:
        raise DataError(
            f"teams.formation.name={name} compares model updates, and none are available here. "
            "Choose sequential, random, labels, file, worst or average."
        )
    vectors = np.asarray(updates())
    if vectors.ndim != 2 or len(vectors) != clients:
        raise DataError(f"teams.formation.name={name}: updates have shape {vectors.shape}, expected ({clients}, D).")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(f"teams.formation.name={name}: the update of client {bad[0]} is not finite.")
    return vectors


def agglomerated(vectors: NDArray[np.floating], teams: int) -> IntArray:
    """Cluster ``vectors`` ``(C, D)`` by average linkage on cosine distance, cut at ``teams`` clusters: labels ``(C,)``.

    A zero vector has distance 1 to everything else.
    """
    if len(vectors) == 1:
        return np.zeros(1, np.int64)
    distance_CC = 1.0 - cosines(vectors)
    np.fill_diagonal(distance_CC, 0.0)
    # Half a second, which only those teams need.
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(distance_CC, checks=False), method="average")
    return np.asarray(cut_tree(tree, n_clusters=teams)[:, 0], np.int64)


def worst_sets(classes: int, teams: int) -> list[set[int]]:
    """PerMFL's worst case: the classes cut into T blocks, {0–4} and {5–9} for 10 classes and 2 teams.

    Raises:
        DataError: if there are more teams than classes.
    """
    if teams > classes:
        raise DataError(f"teams by label sets: {teams} teams for {classes} classes. Use at most {classes} teams.")
    return [set(block.tolist()) for block in np.array_split(np.arange(classes), teams)]


def average_sets(classes: int, teams: int) -> list[set[int]]:
    """PerMFL's average case: each block also takes the classes that follow it, two fifths of its own size.

    {0–6} and {5, 6, 7, 8, 9, 0, 1} for 10 classes and 2 teams. [ours: for other numbers the same proportion, at least
    one class, wrapping around.]

    Raises:
        DataError: if there are more teams than classes, or fewer than 2 teams.
    """
    if teams < 2:
        raise DataError("teams.formation.name=average needs at least 2 teams, whose label sets overlap.")
    blocks = [sorted(block) for block in worst_sets(classes, teams)]
    extra = [max(1, round(0.4 * len(block))) for block in blocks]
    return [
        {(block[0] + j) % classes for j in range(len(block) + more)} for block, more in zip(blocks, extra, strict=True)
    ]


def by_label_sets(counts_CK: IntArray, sets: Sequence[set[int]], name: str) -> Teams:
    """Each client joins the team whose label set covers most of its samples; ties go to the smaller team.

    Args:
        counts_CK: samples of each class that each client holds.
        sets: the classes of each team.
        name: of the formation, for errors.

    Raises:
        DataError: if a team stays empty.
    """
    members: Teams = {team: [] for team in range(len(sets))}
    covered_CT = np.stack([counts_CK[:, sorted(labels)].sum(axis=1) for labels in sets], axis=1)
    for client, covered_T in enumerate(covered_CT):
        best = np.flatnonzero(covered_T == covered_T.max()).tolist()
        members[min(best, key=lambda team: (len(members[team]), team))].append(client)
    empty = [team for team, group in members.items() if not group]
    if empty:
        raise DataError(
            f"teams.formation.name={name}: no client holds mostly the labels {sorted(sets[empty[0]])} of team "
            f"{empty[0]}. Use fewer teams, or partition.name=labels."
        )
    return members
