"""Parameters of models, by name: means of several, and one long vector."""

from collections.abc import Sequence

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Parameters and floating-point buffers of one model, by name."""


def weighted_mean(trees: Sequence[Params], weights: Sequence[float]) -> Params:
    """The mean of several models' parameters, Σ w_i · tree_i / Σ w_i, added up in the order given.

    All have the names and shapes of the first; none is changed.

    Raises:
        ValueError: when there is nothing to average, or the weights do not sum to something positive.
    """
    total = float(sum(weights))
    if not trees or total <= 0:
        raise ValueError(f"cannot average {len(trees)} models with weights that sum to {total}")
    mean: Params = {}
    for name in trees[0]:
        accumulated = trees[0][name] * (weights[0] / total)
        for tree, weight in zip(trees[1:], weights[1:], strict=True):
            accumulated.add_(tree[name], alpha=weight / total)
        mean[name] = accumulated
    return mean


def uniform_mean(trees: Sequence[Params]) -> Params:
    """The mean of several models' parameters with equal weights; see :func:`weighted_mean`."""
    return weighted_mean(trees, [1.0] * len(trees))


def flatten(params: Params) -> Tensor:
    """All values as one vector ``(D,)``, in the order of the names as they stand."""
    return torch.cat([value.reshape(-1) for value in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """Cut a vector ``(D,)`` into views of the names and shapes of ``like``: the inverse of :func:`flatten`."""
    parts = vector.split([value.numel() for value in like.values()])
    return {name: part.view_as(value) for (name, value), part in zip(like.items(), parts, strict=True)}
