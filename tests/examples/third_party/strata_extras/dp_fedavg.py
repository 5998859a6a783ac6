"""FedAvg with differential privacy at the client: what it changed is clipped, and noise is added before it is sent.

Geyer et al., "Differentially Private Federated Learning: A Client Level Perspective", 2017 (arXiv 1712.07557).

Δ_k = w_k − w;  Δ_k ← Δ_k · min(1, C / ‖Δ_k‖) + N(0, (σ C)² I);  w ← w + mean_k Δ_k.

Deviations: noise is each client's own, as where the server is not trusted. The privacy spent is not accounted for.
"""

from dataclasses import dataclass

import torch

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
    uniform_mean,
)


@dataclass(frozen=True)
class PrivateConfig(LocalSgd):
    clip: float = option(1.0, "C: the L2 norm that a client's change has at most", gt=0)
    noise: float = option(0.003, "σ: standard deviation of the noise, as a share of C", ge=0)


@dataclass(frozen=True)
class Model:
    w: Params


@dataclass(frozen=True)
class Change:
    delta: Params


class DpFedAvg(FlatAlgorithm):
    Config = PrivateConfig
    stateless = True

    def init_global(self, seed):
        return Model(init_params(self.model, seed))

    def to_client(self, g, info, assignment):
        return g

    def client_step(self, info, state, down, context):
        trained = yield self.config.train(self.model, down.w, self.config.length)
        change, clip = flatten(trained.params) - flatten(down.w), self.config.clip
        change = change * min(1.0, clip / max(float(change.norm()), 1e-12))
        draws = torch.Generator().manual_seed(context.seed)  # this call's own seed: a resumed run draws the same
        noise = torch.randn(change.shape, generator=draws)
        return ClientResult(Change(unflatten(change + self.config.noise * clip * noise, down.w)), None)

    def global_step(self, g, ups, context):
        require_cohort("DP-FedAvg", ups)
        mean = uniform_mean([up.message.delta for up in ups])
        return Model({name: value + mean[name] for name, value in g.w.items()})

    def global_model(self, g):
        return g.w


METHOD = DpFedAvg
