"""pFedLoRA: a small homogeneous low-rank adapter beside heterogeneous private models; only the adapter travels.

Yi et al., "pFedLoRA: Model-Heterogeneous Personalized Federated Learning with LoRA Tuning", 2023 (arXiv 2310.13283).

Symbols
    ω_k     client k's private model F_k: features (B, F) of any architecture, and a head
    θ       the adapter A, (B, F) → (B, K), beside the private model: the same small shape on every client
    ŷ_F     logits of the private model;  ŷ_A logits of the adapter
    μ       weight of the adapter ("mu")
    r       size of the adapter's bottleneck ("rank"); 0: no adapter
    n_k     client k's training samples
    E, B    local epochs, batch size

Per round, with θ from the server:
    step A  θ frozen, E epochs on ω_k;    step B  ω_k frozen, E epochs on θ_k;    θ ← Σ_k (n_k / n) θ_k over the cohort.
    mixing = loss      step A minimises μ CE(ŷ_A) + (1 − μ) CE(ŷ_F), step B CE(ŷ_A).
    mixing = output    both steps minimise CE(μ ŷ_A + (1 − μ) ŷ_F).

Adapters: "reduction" is the same chain of layers with hidden sizes of r; "decomposition" replaces a matrix m × n by
m × r times r × n, the first Gaussian, the second zero, without a bias. With r = 0 the method is Standalone, to the bit.

Choices of ours
    - Which of the two mixings the paper prints could not be settled; both are here.
    - Where the adapter sits ("site"), which decides what "the same layers" are. features: on what the head sees (500 in
      the five CNNs), the one width that all models share; a reduction is linear(F, r) – ReLU – linear(r, K). input: on
      the inputs, which mean the same on every client, whatever its model; a reduction is the family's smallest model,
      convolutions included, with no hidden layer wider than r, and a decomposition is one matrix from the flattened
      input to the classes (so not for text). Step A's two losses of mixing=loss have no parameter in common there, so
      the adapter would have no influence on what a client answers with: the pair is refused.
    - The Gaussian factor has standard deviation 1/√F, which keeps the scale of what it reads.
    - The personal model answers with ŷ_F under mixing=loss: there no loss ever trained a sum of the two outputs, and
      ŷ_F is what the client keeps and fits to its own data. Under mixing=output it answers with μ ŷ_A + (1 − μ) ŷ_F,
      with the client's own θ_k, which is exactly what was trained.
    - While ω_k is frozen it is in evaluation mode, so that batch norm's statistics and dropout are frozen too.
    - training=simultaneous (the ablation that the paper argues against) trains ω_k and θ_k at once, E epochs, on step
      A's loss. Iterative training makes twice as many steps.
Deviations: none known beyond these.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from strata.algorithms.shared.heterogeneous import HeterogeneousAlgorithm, common_width, shared_member
from strata.engine.errors import ConfigError
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd
from strata.engine.method.losses import Batch, target_loss
from strata.engine.method.messages import (
    Assignment,
    ClientInfo,
    ClientResult,
    ClientStep,
    Context,
    Received,
    require_cohort,
)
from strata.engine.method.requests import Evaluate, Trained
from strata.engine.models.base import Buildable, FeatureModel, init_params
from strata.engine.models.spec import ModelSpec, join_params, reduced, split_params
from strata.engine.models.zoo import TEXT_MODELS
from strata.engine.options import option
from strata.engine.params import Params, weighted_mean

# B batch, K classes, F features, r rank

Structure = Literal["reduction", "decomposition"]
Site = Literal["features", "input"]


@dataclass(frozen=True)
class PFedLoRAConfig(LocalSgd):
    """Settings of pFedLoRA."""

    structure: Structure = option("decomposition", "reduction: the same layers, r wide; decomposition: m×r times r×n")
    rank: int = option(16, "r: size of the adapter's bottleneck; 0: no adapter, which is Standalone", ge=0)
    site: Site = option("features", "what the adapter reads: the private model's features, or the inputs")
    mixing: Literal["loss", "output"] = option("loss", "what μ weighs: the two losses, or the two outputs")
    mu: float = option(0.5, "μ: weight of the adapter", gt=0, le=0.5)
    training: Literal["iterative", "simultaneous"] = option(
        "iterative", "iterative: first the private model, then the adapter; simultaneous: both at once"
    )


@dataclass(frozen=True)
class Adapter:
    """The architecture of θ, where it is two matrices; ``width`` is F, of what it reads."""

    structure: Structure
    rank: int
    width: int
    classes: int

    def build(self) -> nn.Module:
        """Make a module (B, F), or (B, ...) of F numbers each, → (B, K)."""
        if self.structure == "reduction":
            return nn.Sequential(nn.Linear(self.width, self.rank), nn.ReLU(), nn.Linear(self.rank, self.classes))
        return _Decomposition(self.width, self.rank, self.classes)


class _Decomposition(nn.Module):
    def __init__(self, width: int, rank: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(width, rank) / width**0.5)
        self.second = nn.Parameter(torch.zeros(rank, classes))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.first @ self.second


@dataclass(frozen=True)
class Adapted:
    """The architecture of a private model with its adapter; their parameters are prefixed ``model.``, ``adapter.``."""

    model: ModelSpec
    adapter: Adapter | ModelSpec
    site: Site
    mu: float

    def build(self) -> nn.Module:
        """Make a module whose output is the mixture μ ŷ_A + (1 − μ) ŷ_F."""
        return AdaptedModule(self.model.build(), self.adapter.build(), self.site, self.mu)


class AdaptedModule(nn.Module):
    """A private model with its adapter beside it."""

    def __init__(self, model: nn.Module, adapter: nn.Module, site: Site, mu: float) -> None:
        """Join a private model and its adapter."""
        super().__init__()
        self.model, self.adapter, self.site, self.mu = model, adapter, site, mu

    def _featured(self) -> FeatureModel:
        assert isinstance(self.model, FeatureModel)  # common_width has seen its features
        return self.model

    def adapted(self, x: Tensor) -> Tensor:
        """The adapter's logits ŷ_A, (B, K)."""
        logits: Tensor = self.adapter(x if self.site == "input" else self._featured().features(x))
        return logits

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """ŷ_A and ŷ_F, each (B, K), with the features computed once."""
        if self.site == "input":
            return self.adapted(x), self.model(x)
        model = self._featured()
        features = model.features(x)
        return self.adapter(features), model.head(features)

    def forward(self, x: Tensor) -> Tensor:
        """μ ŷ_A + (1 − μ) ŷ_F, (B, K)."""
        adapted, plain = self.outputs(x)
        return self.mu * adapted + (1 - self.mu) * plain


def mixed_losses(module: nn.Module, batch: Batch) -> Tensor:
    """μ CE(ŷ_A) + (1 − μ) CE(ŷ_F) of each sample, (B,)."""
    assert isinstance(module, AdaptedModule)
    adapted, plain = module.outputs(batch.x)
    return module.mu * target_loss(adapted, batch.y) + (1 - module.mu) * target_loss(plain, batch.y)


def mixed_output(module: nn.Module, batch: Batch) -> Tensor:
    """CE(μ ŷ_A + (1 − μ) ŷ_F) of each sample, (B,)."""
    return target_loss(module(batch.x), batch.y)


def adapter_loss(module: nn.Module, batch: Batch) -> Tensor:
    """CE(ŷ_A) of each sample, (B,)."""
    assert isinstance(module, AdaptedModule)
    return target_loss(module.adapted(batch.x), batch.y)


LOSSES = {"loss": (mixed_losses, adapter_loss), "output": (mixed_output, mixed_output)}
"""The losses of step A and step B, by mixing."""


@dataclass(frozen=True)
class Global:
    """Global state: θ; empty at rank 0."""

    theta: Params


@dataclass(frozen=True)
class Private:
    """Private state of a client: ω_k, and θ_k as it was last uploaded, None before the first call."""

    omega: Params
    theta: Params | None = None


@dataclass(frozen=True)
class Down:
    """Server → client: θ, and how long to train."""

    theta: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: θ_k."""

    theta: Params


class PFedLoRA(HeterogeneousAlgorithm[Global, Private, Down, Up]):
    """pFedLoRA: a small adapter is averaged beside private models of any architecture."""

    Config = PFedLoRAConfig
    averages = True
    merges = "samples"
    config: PFedLoRAConfig

    def __init__(self, config: Any, model: Buildable) -> None:
        """Refuse features of different width, inputs that an adapter cannot read, and an adapter without effect."""
        super().__init__(config, model)
        self.adapter = self._adapter() if self.config.rank else None

    def _adapter(self) -> Adapter | ModelSpec:
        config, smallest = self.config, shared_member(self.family, -1)
        if config.site == "features":
            return Adapter(config.structure, config.rank, common_width(self.family, "pFedLoRA"), smallest.classes)
        if config.mixing == "loss":
            raise ConfigError(
                "method.mixing=loss with method.site=input: the two losses have no parameter in common, so clients "
                "would learn nothing from the adapter. Set method.mixing=output, or method.site=features."
            )
        if config.structure == "reduction":
            try:
                return reduced(smallest, config.rank)
            except ConfigError as error:
                raise ConfigError(f"{error} Or set method.site=features, or method.structure=decomposition.") from None
        if smallest.name in TEXT_MODELS:
            raise ConfigError(
                "method.site=input: token ids cannot be multiplied with the matrices of a decomposition. Set "
                "method.structure=reduction, or method.site=features."
            )
        return Adapter(config.structure, config.rank, math.prod(smallest.input_shape), smallest.classes)

    def adapted(self, info: ClientInfo) -> Adapted:
        """The architecture of a client's private model with the adapter."""
        assert self.adapter is not None
        return Adapted(self.architecture(info), self.adapter, self.config.site, self.config.mu)

    def init_global(self, seed: int) -> Global:
        """A freshly initialised adapter."""
        return Global(init_params(self.adapter, seed) if self.adapter else {})

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """A freshly initialised private model."""
        return Private(self.fresh_model(info, seed))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The adapter θ, and how long to train."""
        return Down(g.theta, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """Train private model (step A), then adapter (step B), or both at once; without an adapter plain local SGD."""
        config, trained = self.config, Trained({}, 0.0)
        if not self.adapter:
            trained = yield config.train(self.architecture(info), state.omega, down.length)
            return ClientResult(Up({}), Private(trained.params, {}))
        start = join_params(model=state.omega, adapter=down.theta)
        request = config.train(self.adapted(info), start, down.length)
        loss_a, loss_b = LOSSES[config.mixing]
        if config.training == "simultaneous":
            trained = yield replace(request, loss=loss_a)
        else:
            private = frozenset(join_params(model=state.omega))
            trained = yield replace(request, loss=loss_a, trainable=private)
            others = frozenset(start) - private
            trained = yield replace(request, loss=loss_b, trainable=others, frozen=("model",), start=trained.params)
        parts = split_params(trained.params)
        return ClientResult(Up(parts["adapter"]), Private(parts["model"], parts["adapter"]))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """θ ← Σ_k (n_k / n) θ_k."""
        require_cohort("pFedLoRA", ups)
        return Global(weighted_mean([up.message.theta for up in ups], [up.samples for up in ups]))

    def personal_model(self, state: Private) -> Params:
        """The private model ω_k of the client."""
        return state.omega

    def personal_evaluation(self, info: ClientInfo, state: Private) -> Evaluate:
        """PM answers with ŷ_F under mixing=loss, with the mixture under mixing=output once there is an adapter."""
        if self.config.mixing == "loss" or not state.theta:
            return super().personal_evaluation(info, state)
        return Evaluate(self.adapted(info), join_params(model=state.omega, adapter=state.theta))


METHOD = PFedLoRA
