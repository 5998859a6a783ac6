"""FML: federated mutual learning between a private model and a shared one.

Shen et al., "Federated Mutual Learning", 2020 (arXiv 2006.16765).

Symbols
    p       client k's private model, of its own architecture (PM); p also its logits
    g       the shared model, of one architecture; g_k client k's copy; g also its logits
    α, β    weight of the labels in the losses of p and of g
    n_k     client k's training samples
    E, B    local epochs, batch size

Per round, on each client E epochs of SGD from (p, g) on both losses at once:
    L_p = α CE(p) + (1 − α) KL(g ‖ p),    L_g = β CE(g) + (1 − β) KL(p ‖ g),    KL(a ‖ b) = Σ a log(a / b) of softmaxes.
Then g ← Σ_k (n_k / n) g_k over the cohort. p never leaves the client.

Choices of ours: neither loss sends a gradient into the model that teaches in it; the shared architecture is the
smallest of the family, or the one that ``shared`` names by its number. Deviations: none known beyond these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from strata.algorithms.shared.heterogeneous import HeterogeneousAlgorithm, shared_member
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd
from strata.engine.method.losses import DISTILS, Batch, kl_divergence
from strata.engine.method.messages import (
    Assignment,
    ClientInfo,
    ClientResult,
    ClientStep,
    Context,
    Received,
    require_cohort,
)
from strata.engine.method.requests import Trained
from strata.engine.models.base import Buildable, init_params
from strata.engine.models.spec import Joint, join_params, split_params
from strata.engine.options import option
from strata.engine.params import Params, weighted_mean


@dataclass(frozen=True)
class FMLConfig(LocalSgd):
    """Settings of FML."""

    alpha: float = option(0.5, "α: weight of the labels in the private model's loss", ge=0, le=1)
    beta: float = option(0.5, "β: weight of the labels in the shared model's loss", ge=0, le=1)
    shared: int = option(-1, "which architecture of the family is shared, from 0; -1: the smallest", ge=-1)


@dataclass(frozen=True)
class MutualLoss:
    """L_p + L_g: their sum trains each model on its own, because the teachers get no gradient."""

    alpha: float
    beta: float

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of each sample, (B,), of a joint model with the children p and g."""
        out = module(batch.x)
        p, g = out["p"], out["g"]
        loss_p = self.alpha * F.cross_entropy(p, batch.y, reduction="none") + (1 - self.alpha) * kl_divergence(g, p)
        loss_g = self.beta * F.cross_entropy(g, batch.y, reduction="none") + (1 - self.beta) * kl_divergence(p, g)
        return loss_p + loss_g


@dataclass(frozen=True)
class Global:
    """Global state: g."""

    g: Params


@dataclass(frozen=True)
class Private:
    """Private state of a client: p."""

    p: Params


@dataclass(frozen=True)
class Down:
    """Server → client: g, and how long to train."""

    g: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: g_k."""

    g: Params


class FML(HeterogeneousAlgorithm[Global, Private, Down, Up]):
    """FML: private models and a shared one learn from each other, and the shared one is averaged."""

    Config = FMLConfig
    refuses = dict.fromkeys(("regression", "multi_label"), DISTILS)
    averages = True
    merges = "samples"
    config: FMLConfig

    def __init__(self, config: Any, model: Buildable) -> None:
        """Choose the shared architecture."""
        super().__init__(config, model)
        self.shared = shared_member(self.family, self.config.shared)

    def init_global(self, seed: int) -> Global:
        """A freshly initialised shared model."""
        return Global(init_params(self.shared, seed))

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """A freshly initialised private model."""
        return Private(self.fresh_model(info, seed))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The shared model g, and how long to train."""
        return Down(g.g, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """(p, g_k) ← local SGD from (p, g) on L_p + L_g."""
        joint = Joint((("p", self.architecture(info)), ("g", self.shared)))
        request = self.config.train(joint, join_params(p=state.p, g=down.g), down.length)
        trained: Trained = yield replace(request, loss=MutualLoss(self.config.alpha, self.config.beta))
        parts = split_params(trained.params)
        return ClientResult(Up(parts["g"]), Private(parts["p"]))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """g ← Σ_k (n_k / n) g_k."""
        require_cohort("FML", ups)
        return Global(weighted_mean([up.message.g for up in ups], [up.samples for up in ups]))

    def personal_model(self, state: Private) -> Params:
        """The private model p of the client."""
        return state.p


METHOD = FML
