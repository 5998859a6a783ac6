"""FedAdam: the server takes what clients changed as a gradient of Adam.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021 (arXiv 2003.00295), algorithm 2.

Δ = Σ_k (n_k / n) w_k − w;  m ← β1 m + (1 − β1) Δ;  v ← β2 v + (1 − β2) Δ²;  w ← w + η m / (√v + τ).

Deviations: v begins at 0, where the paper takes τ² or more. Neither mean is corrected for its beginning, as there.
"""

from dataclasses import dataclass

import torch

from strata.engine import (
    ClientResult,
    FlatAlgorithm,
    LocalSgd,
    Params,
    init_params,
    option,
    require_cohort,
    weighted_mean,
)


@dataclass(frozen=True)
class FedAdamConfig(LocalSgd):
    server_lr: float = option(0.03, "η: step size of the server", gt=0)
    beta1: float = option(0.9, "β1: what is kept of the mean of changes", ge=0, lt=1)
    beta2: float = option(0.99, "β2: what is kept of the mean of their squares", ge=0, lt=1)
    tau: float = option(1e-3, "τ: how adaptive the steps are, at most", gt=0)


@dataclass(frozen=True)
class Global:
    w: Params
    m: Params
    v: Params


@dataclass(frozen=True)
class Model:
    w: Params


class FedAdam(FlatAlgorithm):
    Config = FedAdamConfig
    stateless = True

    def init_global(self, seed):
        w = init_params(self.model, seed)
        zeros = {name: torch.zeros_like(value) for name, value in w.items()}
        return Global(w, zeros, zeros)

    def to_client(self, g, info, assignment):
        return Model(g.w)

    def client_step(self, info, state, down, context):
        trained = yield self.config.train(self.model, down.w, self.config.length)
        return ClientResult(Model(trained.params), None)

    def global_step(self, g, ups, context):
        require_cohort("FedAdam", ups)
        mean, own = weighted_mean([up.message.w for up in ups], [up.samples for up in ups]), self.config
        change = {name: mean[name] - value for name, value in g.w.items()}
        m = {name: own.beta1 * g.m[name] + (1 - own.beta1) * d for name, d in change.items()}
        v = {name: own.beta2 * g.v[name] + (1 - own.beta2) * d**2 for name, d in change.items()}
        w = {name: w + own.server_lr * m[name] / (v[name].sqrt() + own.tau) for name, w in g.w.items()}
        return Global(w, m, v)

    def global_model(self, g):
        return g.w


METHOD = FedAdam
