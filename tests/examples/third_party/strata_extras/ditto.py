"""Ditto: FedAvg's model, and beside it a personal one that is pulled towards it.

Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021 (arXiv 2012.04221).

Per call: w_k ← SGD from w;  v_k ← SGD from v_k on f_k(v) + λ/2 ‖v − w‖².  Then w ← Σ_k (n_k / n) w_k.  PM = v_k.

Deviations: both models train for as long, and v_k begins at the first w that the client is sent.
"""

from dataclasses import dataclass

from strata.engine import (
    ClientResult,
    FlatAlgorithm,
    LocalSgd,
    Params,
    Pull,
    init_params,
    option,
    require_cohort,
    weighted_mean,
)


@dataclass(frozen=True)
class DittoConfig(LocalSgd):
    lam: float = option(0.1, "λ: how strongly a personal model is pulled towards the global one", ge=0)


@dataclass(frozen=True)
class Model:
    """What the server keeps, and what crosses the network in both directions."""

    w: Params


@dataclass(frozen=True)
class Private:
    v: Params | None = None


class Ditto(FlatAlgorithm):
    Config = DittoConfig
    has_personal_model = True

    def init_global(self, seed):
        return Model(init_params(self.model, seed))

    def init_client(self, info, seed):
        return Private()

    def to_client(self, g, info, assignment):
        return g

    def client_step(self, info, state, down, context):
        length, pull = self.config.length, (Pull(down.w, self.config.lam),)
        shared = yield self.config.train(self.model, down.w, length)
        own = yield self.config.train(self.model, down.w if state.v is None else state.v, length, pull)
        return ClientResult(Model(shared.params), Private(own.params))

    def global_step(self, g, ups, context):
        require_cohort("Ditto", ups)
        return Model(weighted_mean([up.message.w for up in ups], [up.samples for up in ups]))

    def global_model(self, g):
        return g.w

    def personal_model(self, state):
        return state.v


METHOD = Ditto
