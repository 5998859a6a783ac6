"""FedKD: mutual distillation with a shared model whose updates travel as truncated singular value decompositions.

Wu et al., "Communication-Efficient Federated Learning via Knowledge Distillation", Nature Communications 2022
(arXiv 2108.13323).

Symbols
    p       client k's private model, the paper's mentor (PM); p also its logits
    g       the shared model, the paper's mentee; g_k client k's copy; g also its logits
    h_p h_g features of the models, (F_p) and (F_g); W_h a learnt matrix of the client, (F_p, F_g)
    Δ       a change of g: Δ_k = g_k − g on client k, Δ̄ their mean
    e       share of a matrix' energy (Σ σ²) that the truncation keeps: from e_0 to e_1 over T rounds
    n_k     client k's training samples
    E, B    local epochs, batch size

Per round, on each client E epochs of SGD from (p, g) on both losses at once:
    L_p = CE(p) + KL(g ‖ p) / (CE(p) + CE(g)),    L_g = CE(g) + KL(p ‖ g) / (CE(p) + CE(g)).
With ``hidden`` a > 0 each loss also has a · MSE(W_h h_g, h_p) / (CE(p) + CE(g)), and W_h is trained beside them.
Up: Δ_k, each matrix as U_r Σ_r V_r with the smallest r that keeps e of its energy.  Δ̄ ← Σ_k (n_k / n) Δ_k over the
cohort.  Down, to all: Δ̄, truncated alike.  g ← g + Δ̄ as truncated, on the server and on the clients.

T is the run's number of rounds unless ``energy_rounds`` gives another; a run that is prolonged keeps the T that it
began with, and e_1 from then on.

Choices of ours
    - Adaptive distillation: as in the paper the sum of both task losses divides the distillation terms alone; it is a
      weight here, without a gradient. Neither loss sends a gradient into the model that teaches in it.
    - The paper's third term, between hidden states and attention maps of transformers, is off by default, because the
      layers of different architectures do not correspond. ``hidden`` (the paper: 1) has it between the features, which
      all architectures here have; W_h stays with the client, and the paper does not say whose it is.
    - What is truncated is the change, as in the paper ("gradients"), not the weights themselves, as elsewhere.
    - Σ travels inside U; a matrix whose factors would be larger than itself, and every vector, travels as it is. The
      kernels of a convolution are the matrix (outputs, inputs · height · width).
    - The decompositions are not counted as FLOPs, which are those of training.
    - A client that has not got the last version of g (its first call, a round without it, or an upload that was stale
      in an asynchronous round) is sent g as a whole.
    - The shared architecture is the smallest of the family, or the one that ``shared`` names by its number.
Deviations: none known beyond these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strata.algorithms.shared.heterogeneous import HeterogeneousAlgorithm, shared_member
from strata.engine.errors import ConfigError
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
from strata.engine.models.base import Buildable, FeatureModel, init_params
from strata.engine.models.spec import Joint, ModelSpec, feature_width, join_params, split_params
from strata.engine.options import option
from strata.engine.params import Params, weighted_mean

# m × n matrix, r kept singular values


@dataclass(frozen=True)
class FedKDConfig(LocalSgd):
    """Settings of FedKD."""

    energy_start: float = option(0.95, "e_0: share of each matrix' energy kept in the first round", gt=0, le=1)
    energy_end: float = option(0.98, "e_1: share of each matrix' energy kept from round T on", gt=0, le=1)
    energy_rounds: int | None = option(
        None, "T: rounds over which the share grows; null: those of the run", ge=1, of_run="rounds"
    )
    hidden: float = option(
        0.0, "weight of the hidden loss between the features of both models; 0: none, the paper: 1", ge=0
    )
    shared: int = option(-1, "which architecture of the family is shared, from 0; -1: the smallest", ge=-1)

    def validate(self, path: str) -> None:
        """Refuse an energy that shrinks over the rounds."""
        super().validate(path)
        if self.energy_end < self.energy_start:
            raise ConfigError(
                f"{path}energy_end={self.energy_end:g} is out of range: expected ≥ {path}energy_start = "
                f"{self.energy_start:g}."
            )

    def energy(self, round: int) -> float:
        """The energy e, 0..1, in a round, counted from 1.

        Raises:
            ConfigError: where T is neither given nor known of a run.
        """
        if self.energy_rounds is None:
            raise ConfigError("energy_rounds=None: expected a number outside of a run, whose rounds it stands for.")
        progress = min(1.0, (round - 1) / max(1, self.energy_rounds - 1))
        return self.energy_start + (self.energy_end - self.energy_start) * progress


@dataclass(frozen=True)
class AdaptiveLoss:
    """L_p + L_g of a joint model with the children p and g, (B,); what is divided by is the batch's mean.

    Attributes:
        hidden: weight of the hidden loss, counted once: it moves p in L_p, g in L_g, and W_h.
    """

    hidden: float = 0.0

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor:
        """The sum of both losses, sample by sample."""
        out = module(batch.x)
        p, g = out["p"], out["g"]
        tasks = F.cross_entropy(p, batch.y, reduction="none") + F.cross_entropy(g, batch.y, reduction="none")
        taught = kl_divergence(g, p) + kl_divergence(p, g)
        if self.hidden:
            taught = taught + self.hidden * out["gap"]
        return tasks + taught / batch.mean(tasks).detach()


@dataclass(frozen=True)
class Bridge:
    """W_h: the features of the shared model as those of a private one, (B, F_g) → (B, F_p)."""

    inputs: int
    outputs: int

    def build(self) -> nn.Linear:
        """Make the linear layer, without a bias."""
        return nn.Linear(self.inputs, self.outputs, bias=False)


@dataclass(frozen=True)
class Bridged:
    """p and g with W_h between their features: a :class:`Joint` of the three that also says how far these are apart."""

    p: ModelSpec
    g: ModelSpec

    @property
    def bridge(self) -> Bridge:
        """W_h between the two.

        Raises:
            ConfigError: where one of them exposes no features.
        """
        return Bridge(feature_width(self.g), feature_width(self.p))

    def build(self) -> nn.Module:
        """Make a module whose ``forward`` gives the logits ``p`` and ``g`` and the squared distance ``gap`` (B,)."""
        return _BridgedModule({"p": self.p.build(), "g": self.g.build(), "w": self.bridge.build()})


class _BridgedModule(nn.ModuleDict):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        p, g = self["p"], self["g"]
        assert isinstance(p, FeatureModel)
        assert isinstance(g, FeatureModel)
        h_p, h_g = p.features(x), g.features(x)
        gap = (self["w"](h_g) - h_p).square().mean(-1)
        return {"p": p.head(h_p), "g": g.head(h_g), "gap": gap}


@dataclass(frozen=True)
class Factored:
    """A change of a model: by name U Σ (m, r) and V (r, n) of the matrices worth it, and the rest as it is."""

    factors: dict[str, tuple[Tensor, Tensor]]
    whole: Params


def compress(change: Params, energy: float) -> Factored:
    """Truncate the singular value decomposition of every matrix to the smallest rank that keeps ``energy``, 0..1."""
    factors, whole = {}, {}
    for name, value in change.items():
        pair = truncate(value.reshape(len(value), -1), energy) if value.ndim > 1 else None
        if pair is not None and pair[0].numel() + pair[1].numel() < value.numel():
            factors[name] = pair
        else:
            whole[name] = value
    return Factored(factors, whole)


def truncate(matrix: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """U Σ (m, r) and V (r, n) of a matrix (m, n), r ≥ 1 the smallest with Σ_{i ≤ r} σ_i² ≥ energy · Σ σ_i²."""
    u, sigma, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = (sigma**2).cumsum(0)
    r = int((kept[:-1] < energy * kept[-1]).sum()) + 1
    return (u[:, :r] * sigma[:r]).float().contiguous(), v[:r].float().contiguous()


def restore(factored: Factored, like: Params) -> Params:
    """The change that was compressed, in the shapes of ``like``."""
    products = {name: u @ v for name, (u, v) in factored.factors.items()}
    return {name: {**factored.whole, **products}[name].view_as(value) for name, value in like.items()}


def add(g: Params, change: Params) -> Params:
    """g + Δ."""
    return {name: value + change[name] for name, value in g.items()}


@dataclass(frozen=True)
class Global:
    """Global state: g, how often it has changed, its last change, and the clients that hold g as it was before."""

    g: Params
    version: int
    last: Factored | None = None
    holders: tuple[int, ...] = ()


@dataclass(frozen=True)
class Private:
    """Private state of a client: p, g as the client last knew it from the server, with its version, and W_h if any."""

    p: Params
    g: Params | None = None
    version: int = -1
    w: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Down:
    """Server → client: the last change of g or all of it, its version, and how long to train."""

    g: Params | None
    change: Factored | None
    version: int
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: Δ_k."""

    change: Factored


class FedKD(HeterogeneousAlgorithm[Global, Private, Down, Up]):
    """FedKD: private models and a shared one teach each other, and the shared one's changes travel compressed."""

    Config = FedKDConfig
    refuses = dict.fromkeys(("regression", "multi_label"), DISTILS)
    config: FedKDConfig

    def __init__(self, config: Any, model: Buildable) -> None:
        """Choose the shared architecture."""
        super().__init__(config, model)
        self.shared = shared_member(self.family, self.config.shared)

    def init_global(self, seed: int) -> Global:
        """A freshly initialised shared model."""
        return Global(init_params(self.shared, seed), 0)

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """A freshly initialised private model, and W_h where there is a hidden loss."""
        bridge = Bridged(self.architecture(info), self.shared).bridge if self.config.hidden else None
        return Private(self.fresh_model(info, seed), w=init_params(bridge, seed) if bridge else {})

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The last change to those who hold what it changes, all of g to the others."""
        holds = info.id in g.holders
        return Down(None if holds else g.g, g.last if holds else None, g.version, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """(p, g_k) ← local SGD from (p, g) on L_p + L_g; the change of g_k goes up."""
        g = received(state, down)
        p, hidden = self.architecture(info), self.config.hidden
        joint = Bridged(p, self.shared) if hidden else Joint((("p", p), ("g", self.shared)))
        request = self.config.train(joint, join_params(p=state.p, g=g, w=state.w), down.length)
        trained: Trained = yield replace(request, loss=AdaptiveLoss(hidden))
        parts = split_params(trained.params)
        change = {name: parts["g"][name] - value for name, value in g.items()}
        energy = self.config.energy(context.round)
        return ClientResult(
            Up(compress(change, energy)),
            Private(parts["p"], g, down.version, parts.get("w", {})),
            {"energy": energy},
        )

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """Δ̄ ← Σ_k (n_k / n) Δ_k, truncated;  g ← g + Δ̄."""
        require_cohort("FedKD", ups)
        changes = [restore(up.message.change, g.g) for up in ups]
        mean = weighted_mean(changes, [up.samples for up in ups])
        last = compress(mean, self.config.energy(g.version + 1))
        return Global(add(g.g, restore(last, g.g)), g.version + 1, last, _holders(ups))

    def between(self, before: Global, after: Global, share: float) -> Global:
        """g between two; nobody has its last change then, so everybody is sent all of it."""
        mixed = super().between(before, after, share)
        return mixed if share == 1 else replace(mixed, last=None, holders=())

    def personal_model(self, state: Private) -> Params:
        """The private model p of the client."""
        return state.p


def _holders(ups: Sequence[Received[Up]]) -> tuple[int, ...]:
    """The senders that were sent the present g; where servers do not wait for all, others have an older one."""
    return tuple(up.sender for up in ups if not up.staleness)


def received(state: Private, down: Down) -> Params:
    """g as the server has it now: sent as a whole, or as a change of what the client holds."""
    if down.g is not None:
        return down.g
    assert state.g is not None
    assert down.change is not None
    if state.version == down.version:  # it was here before, in a round from which nobody's upload counted
        return state.g
    assert state.version == down.version - 1
    return add(state.g, restore(down.change, state.g))


METHOD = FedKD
