"""Spherical k-means: clusters of vectors by direction, none of them empty, optionally of equal size.

# C vectors, T clusters
"""

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.dataset import IntArray

RESTARTS = 8
MAX_STEPS = 50


def cosines(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """The cosine of each pair of the C rows of ``vectors``, ``(C, C)`` float64; 0 for pairs with a row of zeros."""
    units = unit_rows(vectors)
    return np.clip(np.asarray(units @ units.T, np.float64), -1.0, 1.0)


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scale each row of ``vectors`` ``(C, D)`` to Euclidean length 1, in their dtype; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), vectors.dtype)


def _compact_units(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return unit rows in at most C dimensions with the same inner products; a model's D would cost C·D per step."""
    if vectors.shape[1] <= len(vectors):
        return np.asarray(unit_rows(vectors), np.float64)
    eigenvalues, axes = np.linalg.eigh(cosines(vectors))
    return np.asarray(axes * np.sqrt(np.clip(eigenvalues, 0.0, None)), np.float64)


def cosine_clusters(
    vectors: NDArray[np.floating], clusters: int, draws: np.random.Generator, *, balanced: bool
) -> IntArray:
    """Cluster vectors by direction: labels ``(C,)`` that make the summed cosine to the clusters' mean directions large.

    The best of :data:`RESTARTS` k-means++ starts; no cluster is empty.

    Args:
        vectors: ``(C, D)``.
        clusters: number of clusters T, at most C.
        draws: what the starts are drawn from.
        balanced: whether the clusters' sizes may differ by at most one.
    """
    units = _compact_units(vectors)
    best, best_score = np.zeros(len(units), np.int64), -np.inf
    for _ in range(RESTARTS):
        labels, score = _one_start(units, clusters, draws, balanced)
        # A later start must be better by more than rounding, so that the result does not hang on the last bit.
        if score > best_score + 1e-9:
            best, best_score = labels, score
    return best


def _one_start(
    units: NDArray[np.float64], clusters: int, draws: np.random.Generator, balanced: bool
) -> tuple[IntArray, float]:
    """Labels ``(C,)`` from one k-means++ start, and their score: the summed cosine to the clusters' mean directions."""
    centres = _spread_centres(units, clusters, draws)
    labels = np.full(len(units), -1, np.int64)
    for _ in range(MAX_STEPS):
        similarity_CT = units @ centres.T
        assigned = _balanced_labels(similarity_CT) if balanced else _filled(similarity_CT)
        if np.array_equal(assigned, labels):
            break
        labels = assigned
        sums = np.stack([units[labels == cluster].sum(axis=0) for cluster in range(clusters)])
        centres = np.asarray(unit_rows(sums), np.float64)
    return labels, float((units * centres[labels]).sum())


def _spread_centres(units: NDArray[np.float64], clusters: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """Return starting centres by k-means++: each next one is drawn by its squared distance to the nearest so far."""
    chosen = [int(draws.integers(len(units)))]
    while len(chosen) < clusters:
        nearest = np.min([((units - units[row]) ** 2).sum(axis=1) for row in chosen], axis=0)
        nearest[chosen] = 0.0
        left = np.setdiff1d(np.arange(len(units)), chosen)
        total = nearest.sum()
        chosen.append(int(draws.choice(len(units), p=nearest / total) if total > 1e-12 else draws.choice(left)))
    return units[chosen]


def _filled(similarity_CT: NDArray[np.float64]) -> IntArray:
    """Return the most similar cluster of each vector; an empty cluster takes the vector that fits its own worst."""
    labels = np.asarray(similarity_CT.argmax(axis=1), np.int64)
    fit = similarity_CT.max(axis=1)
    for cluster in range(similarity_CT.shape[1]):
        if (labels == cluster).any():
            continue
        sizes = np.bincount(labels, minlength=similarity_CT.shape[1])
        worst = int(np.where(sizes[labels] > 1, fit, np.inf).argmin())
        labels[worst], fit[worst] = cluster, np.inf
    return labels


def _balanced_labels(similarity_CT: NDArray[np.float64]) -> IntArray:
    """Clusters of sizes that differ by at most one, greedily by regret.

    Vectors that lose most by their second choice choose first. Not the optimal assignment, which costs C³, but it is
    optimal whenever no cluster overflows, and k-means improves on it in the next step.
    """
    count, clusters = similarity_CT.shape
    ranked = np.sort(similarity_CT, axis=1)
    regret = ranked[:, -1] - ranked[:, -2] if clusters > 1 else np.zeros(count)
    small, larger_ones = divmod(count, clusters)
    sizes, labels = np.zeros(clusters, np.int64), np.empty(count, np.int64)
    for row in np.argsort(-regret, kind="stable"):
        may_grow = int((sizes > small).sum()) < larger_ones
        open_clusters = (sizes < small) | ((sizes == small) & may_grow)
        cluster = int(np.where(open_clusters, similarity_CT[row], -np.inf).argmax())
        labels[row] = cluster
        sizes[cluster] += 1
    return labels
