"""FedAvg whose clients send the largest entries of their change, and keep the rest for the next time.

Stich et al., "Sparsified SGD with Memory", NeurIPS 2018 (arXiv 1809.07599), with a client's change for a gradient.

a_k = e_k + w_k − w;  the k entries of a_k that are largest are sent, e_k ← a_k without them;  w ← w + mean_k of those.

Deviations: changes of several local steps are sparsified, and the mean is over the cohort.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from strata.engine import (
    ClientResult,
    FlatAlgorithm,
    LocalSgd,
    Params,
    flatten,
    init_params,
    option,
    require_cohort,
    unflatten,
)


@dataclass(frozen=True)
class TopKConfig(LocalSgd):
    share: float = option(0.1, "share of the entries that a client sends, at least one", gt=0, le=1)


@dataclass(frozen=True)
class Model:
    w: Params


@dataclass(frozen=True)
class Kept:
    rest: Tensor | None = None


@dataclass(frozen=True)
class Entries:
    """Positions in the flattened model (k,), and the values (k,) to add there."""

    places: Tensor
    values: Tensor


class TopK(FlatAlgorithm):
    Config = TopKConfig

    def init_global(self, seed):
        return Model(init_params(self.model, seed))

    def init_client(self, info, seed):
        return Kept()

    def to_client(self, g, info, assignment):
        return g

    def client_step(self, info, state, down, context):
        trained = yield self.config.train(self.model, down.w, self.config.length)
        change = flatten(trained.params) - flatten(down.w)
        change = change if state.rest is None else change + state.rest
        places = change.abs().topk(max(1, int(self.config.share * len(change)))).indices
        return ClientResult(Entries(places, change[places]), Kept(change.index_fill(0, places, 0.0)))

    def global_step(self, g, ups, context):
        require_cohort("top-k", ups)
        w = flatten(g.w)
        total = torch.zeros_like(w)
        for up in ups:
            total = total.index_add(0, up.message.places, up.message.values)
        return Model(unflatten(w + total / len(ups), g.w))

    def global_model(self, g):
        return g.w


METHOD = TopK
