"""HAPFL: two agents allocate model sizes and training intensities against stragglers; models teach each other.

"Heterogeneity-Aware Personalized Federated Learning via Adaptive Dual-Agent Reinforcement Learning", 2025
(arXiv 2501.16966).

Symbols
    i, k        client; clients per round
    s_i, E_i    size class and training intensity (epochs, or minibatch steps) given to client i
    w_s         global model of size class s;  w_i: client i's model after the round, its personal model (PM)
    v, v_i      global LiteModel (GM), the same small architecture everywhere; client i's after the round
    p, q        softmax(z/τ) of local model and LiteModel;  sg: no gradient
    H_i, a_i    entropy of client i's label distribution; its validation accuracy (see below)
    ω_i         aggregation weight

Per round
    1. probe     clients never measured train v for one epoch; only the time counts
    2. π_s       picks s_i, π_E picks E_i  (:mod:`strata.algorithms.controls.stragglers`, learnt by RLlib policies)
    3. client    (w_i, v_i) ← E_i of SGD from (w_{s_i}, v) on
                     L_local = CE(y, z_local) + λ₁ τ² KL(sg(q) ‖ p),  L_lite = CE(y, z_lite) + λ₂ τ² KL(sg(p) ‖ q)
    4. server    v ← Σ_i ω_i v_i over all;  w_s ← Σ_i ω_i w_i over its size class, with an ω of its own

Validation rows are those that ``data.validation_fraction`` holds out of the training rows. It is 0 by default, in
``hapfl.yaml`` as well: a_i is then the accuracy on the rows that were just trained on, which flatters clients that
overfit. ``data.validation_fraction=0.1`` makes it what the paper says; a run without it says so when it begins.

Choices of ours, which no source states: λ₁ = λ₂ = τ = 1; ω_i = ½ H_i/ΣH + ½ a_i/Σa, with H_i·a_i and n_i as the other
two variants (the paper names entropy and accuracy, not the form); the sums of an ω run over those it averages, and each
kind of model is weighted by its own accuracy; sizes are width multiples of the configured model; measurements are
renewed by every call, which trains v as the probe does; observations, rewards and action spaces (see there).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from strata.algorithms.controls.stragglers import SIZE, VALIDATION_ACCURACY, WEIGHT, StragglerControl
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm
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
from strata.engine.method.requests import Evaluate, Evaluation, Request, Train, Trained
from strata.engine.models.base import Buildable, init_params
from strata.engine.models.spec import Joint, join_params, scaled, split_params
from strata.engine.options import option
from strata.engine.params import Params, weighted_mean
from strata.engine.seeding import derive


@dataclass(frozen=True)
class HapflConfig(LocalSgd):
    """Settings of HAPFL; ``epochs`` (or ``steps``) is the default intensity, of which k times as much is shared out."""

    pool: list[float] = option([0.25, 0.5, 0.75, 1.0], "widths of the size classes, relative to the model's", gt=0)
    lite: float = option(0.125, "width of the LiteModel, relative to the model's", gt=0)
    default_size: int = option(2, "size class where no agent picks one, counted from 0", ge=0)
    size_agent: bool = option(True, "π_s picks the sizes; false: the default size for all")
    intensity_agent: bool = option(True, "π_E shares out the intensity; false: equal shares")
    distillation: bool = option(True, "local model and LiteModel teach each other; false: each learns alone")
    lambda_local: float = option(1.0, "λ₁: how much the LiteModel teaches the local model", ge=0)
    lambda_lite: float = option(1.0, "λ₂: how much the local model teaches the LiteModel", ge=0)
    tau: float = option(1.0, "τ: temperature of the distillation", gt=0)
    weighting: Literal["entropy+accuracy", "entropy*accuracy", "samples"] = option(
        "entropy+accuracy", "what an upload's weight rests on"
    )
    accuracy_reward: float = option(0.0, "η: share of the accuracy's gain in the reward of π_E", ge=0)

    def validate(self, path: str) -> None:
        """Refuse a pool that is not ascending, or does not hold the default."""
        super().validate(path)
        if sorted(set(self.pool)) != list(self.pool) or not self.pool:
            raise ConfigError(f"{path}pool={list(self.pool)}: expected widths in ascending order, each once.")
        if self.default_size >= len(self.pool):
            raise ConfigError(
                f"{path}default_size={self.default_size} is out of range: {path}pool has the sizes 0 to "
                f"{len(self.pool) - 1}."
            )


@dataclass(frozen=True)
class MutualDistillation:
    """L_local + L_lite of one batch; the teachers' gradients are stopped, so each model follows its own loss."""

    lambda_local: float
    lambda_lite: float
    tau: float

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum of the two losses of each sample, (B,), of a module that gives ``local`` and ``lite`` logits (B, K)."""
        logits = model(batch.x)
        local, lite = logits["local"], logits["lite"]
        loss = F.cross_entropy(local, batch.y, reduction="none") + F.cross_entropy(lite, batch.y, reduction="none")
        if self.lambda_local:
            loss = loss + self.lambda_local * self._divergence(local, lite)
        if self.lambda_lite:
            loss = loss + self.lambda_lite * self._divergence(lite, local)
        return loss

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """τ² KL(teacher ‖ student) of each sample; the teacher gets no gradient."""
        return self.tau**2 * kl_divergence(teacher / self.tau, student / self.tau)


@dataclass(frozen=True)
class Global:
    """Global state: the LiteModel v, and w_s by size class."""

    lite: Params
    sizes: tuple[Params, ...]


@dataclass(frozen=True)
class Personal:
    """Private state of a client: its last local model and that model's size class; None before its first call."""

    local: Params | None = None
    size: int = 0


@dataclass(frozen=True)
class Down:
    """Server → client: v, w_s with its size class (none for a probe), and the intensity."""

    lite: Params
    local: Params | None
    size: int
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: both models, entropy of the labels, validation accuracies of both."""

    lite: Params
    local: Params
    entropy: float
    lite_accuracy: float
    local_accuracy: float


class Hapfl(FlatAlgorithm[Global, Personal, Down, Up]):
    """HAPFL: clients train models of assigned size and intensity beside a LiteModel that all share."""

    Config = HapflConfig
    refuses = dict.fromkeys(("regression", "multi_label"), DISTILS)
    Control = StragglerControl
    has_personal_model = True
    validates = True
    config: HapflConfig

    def __init__(self, config: HapflConfig, model: Buildable) -> None:
        """Build the pool of sizes from the configured model."""
        super().__init__(config, model)
        self.lite = scaled(model, config.lite)
        self.pool = tuple(scaled(model, width) for width in config.pool)

    def init_global(self, seed: int) -> Global:
        """Fresh models, one per size class, and a fresh LiteModel."""
        sizes = tuple(init_params(spec, derive(seed, "size", number)) for number, spec in enumerate(self.pool))
        return Global(init_params(self.lite, derive(seed, "lite")), sizes)

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No personal model before the first call."""
        return Personal()

    def default_assignment(self, info: ClientInfo) -> Assignment:
        """The default size at the default intensity."""
        return {SIZE: self.config.default_size, **super().default_assignment(info)}

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The LiteModel, and the model of the client's size class."""
        size = int(assignment[SIZE])
        return Down(g.lite, g.sizes[size], size, Length.of(assignment))

    def probe(self, g: Global) -> Down:
        """The LiteModel, to be trained for an epoch."""
        return Down(g.lite, None, -1, Length(epochs=1))

    def probe_step(self, info: ClientInfo, down: Down, context: Context) -> ClientStep[None, None]:
        """One epoch of the LiteModel alone."""
        yield self.config.train(self.lite, down.lite, down.length)
        return ClientResult(None, None)

    def client_step(self, info: ClientInfo, state: Personal, down: Down, context: Context) -> ClientStep[Personal, Up]:
        """Mutual training of local model and LiteModel, then their accuracies on the client's validation data."""
        assert down.local is not None
        spec = self.pool[down.size]
        trained: Trained = yield self._train(spec, down)
        models = split_params(trained.params)
        lite: Evaluation = yield Evaluate(self.lite, models["lite"], "validation")
        local: Evaluation = yield Evaluate(spec, models["local"], "validation")
        up = Up(models["lite"], models["local"], info.label_entropy, lite.accuracy, local.accuracy)
        metrics = {"entropy": up.entropy, VALIDATION_ACCURACY: local.accuracy}
        return ClientResult(up, Personal(models["local"], down.size), metrics)

    def _train(self, spec: Buildable, down: Down) -> Train:
        config, assigned = self.config, down.local
        assert assigned is not None
        strengths = (config.lambda_local, config.lambda_lite) if config.distillation else (0.0, 0.0)
        return config.train(
            Joint((("local", spec), ("lite", self.lite))),
            join_params(local=assigned, lite=down.lite),
            down.length,
            loss=MutualDistillation(*strengths, config.tau),
        )

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """LiteModels are averaged over all, local models over their size class."""
        require_cohort("HAPFL", ups)
        weights = self.weights(ups, [up.message.lite_accuracy for up in ups])
        lite = weighted_mean([up.message.lite for up in ups], weights)
        sizes = list(g.sizes)
        for size in sorted({int(up.assignment[SIZE]) for up in ups}):
            members = [up for up in ups if up.assignment[SIZE] == size]
            weights = self.weights(members, [up.message.local_accuracy for up in members])
            sizes[size] = weighted_mean([up.message.local for up in members], weights)
        return Global(lite, tuple(sizes))

    def weights(self, ups: Sequence[Received[Up]], accuracies: Sequence[float]) -> list[float]:
        """ω of some uploads, which an agent may have set; else by ``weighting``. Not normalised."""
        if WEIGHT in ups[0].assignment:
            return [float(up.assignment[WEIGHT]) for up in ups]
        entropies, accurate = np.array([up.message.entropy for up in ups]), np.array(accuracies)
        if self.config.weighting == "entropy+accuracy":
            omega = (_shares(entropies) + _shares(accurate)) / 2
        elif self.config.weighting == "entropy*accuracy":
            omega = _shares(entropies * accurate)
        else:
            omega = _shares(np.array([float(up.samples) for up in ups]))
        return [float(share) for share in omega]

    def personal_model(self, state: Personal) -> Params | None:
        """The client's last local model w_i."""
        return state.local

    def global_model(self, g: Global) -> Params:
        """The LiteModel v, the one model that all clients share."""
        return g.lite

    def client_evaluate(
        self, info: ClientInfo, state: Personal | None, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """GM is the LiteModel; PM the client's last local model, or the LiteModel before its first call."""
        gm = yield Evaluate(self.lite, shared["GM"])
        if state is None or state.local is None:
            return {"GM": gm, "PM": gm}
        return {"GM": gm, "PM": (yield Evaluate(self.pool[state.size], state.local))}


def _shares(values: Any) -> Any:
    """Values ≥ 0 divided by their sum; equal shares where all are 0 (clients of one label each, nothing right yet)."""
    total = values.sum()
    return values / total if total > 0 else np.full(len(values), 1 / len(values))


METHOD = Hapfl
