"""FedProto: clients share the mean features of each class, and nothing else.

Tan et al., "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022 (arXiv 2105.00243).

Symbols
    ω_k         client k's private model: features f(x) (B, F) and a head
    C_k^(j)     prototype: mean of client k's features over its n_kj training samples of class j
    C̄^(j)       global prototype of class j
    λ           pull of the features towards the global prototypes ("lam")
    E, B        local epochs, batch size

Per round: ω_k ← E epochs of SGD on CE + λ · mean over batch and features of (f(x) − C̄^(y))²; samples of classes without
a global prototype are pulled nowhere.  Then C_k^(j) of the trained features;  C̄^(j) ← Σ_k (n_kj / Σ_k n_kj) C_k^(j)
over the clients of the cohort that have class j.
A client answers with the class of the nearest prototype; of which prototypes, ``answer`` says.

Choices of ours
    - The logits behind an evaluation's loss are − mean over features of (f(x) − prototype)², the distance trained on.
    - ``answer=own``, the default: a client answers by its own prototypes for the classes it has and by the global ones
      that it was last sent for the others. The paper compares with prototypes without saying whose, and at which moment
      of a round. No published code does it so: with ``global`` a client answers by the nearest of the global prototypes
      as they are when it is evaluated, as in the code that the authors released, and with ``head`` by its head, as
      models without prototypes do.
    - A class that nobody in the cohort has keeps its global prototype. One without any is never the answer: its
      distance counts as one more than the largest of the others.
    - Prototypes are taken of all training samples after the local training, one more forward pass, which is counted.
Deviations: the printed aggregation has a further factor 1 / (number of clients with class j), which would shrink the
prototypes; it is left out.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strata.algorithms.shared.heterogeneous import HeterogeneousAlgorithm, common_width
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd
from strata.engine.method.losses import Batch
from strata.engine.method.messages import (
    Assignment,
    ClientInfo,
    ClientResult,
    ClientStep,
    Context,
    Received,
    require_cohort,
)
from strata.engine.method.requests import Evaluate, Evaluation, Represent, Represented, Request, Trained
from strata.engine.models.base import Buildable, FeatureModel, features_of
from strata.engine.models.spec import ModelSpec, join_params
from strata.engine.options import option
from strata.engine.params import Params

# B batch, K classes, P classes with a prototype, F features


@dataclass(frozen=True)
class FedProtoConfig(LocalSgd):
    """Settings of FedProto."""

    lam: float = option(1.0, "λ: pull of the features towards the global prototypes", ge=0)
    answer: Literal["own", "head", "global"] = option(
        "own", "what a client answers by: its own prototypes, its head, or the nearest global prototype"
    )


@dataclass(frozen=True)
class Prototypes:
    """Mean features of some classes: their numbers (P,) int64, ascending, and the means (P, F)."""

    classes: Tensor
    means: Tensor


@dataclass(frozen=True)
class PrototypeLoss:
    """CE + λ · the mean over the features of (f(x) − C̄^(y))².

    Constants: ``means`` (K, F), and ``known`` (K,), 1 where there is a prototype.
    """

    lam: float

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of each sample, (B,)."""
        assert isinstance(module, FeatureModel)
        features_BF = module.features(batch.x)
        squares_BF = (features_BF - batch.constants["means"][batch.y]) ** 2
        pull: Tensor = (squares_BF * batch.constants["known"][batch.y].unsqueeze(1)).mean(1)
        task: Tensor = F.cross_entropy(module.head(features_BF), batch.y, reduction="none")
        return task + self.lam * pull


@dataclass(frozen=True)
class NearestPrototype:
    """The architecture that answers with the nearest of K prototypes; ``means`` and ``known`` are its buffers."""

    model: ModelSpec
    features: int

    def build(self) -> nn.Module:
        """Make a module whose logits are negative mean squared distances."""
        return _NearestPrototype(self.model.build(), self.model.classes, self.features)


class _NearestPrototype(nn.Module):
    means: Tensor
    known: Tensor

    def __init__(self, model: nn.Module, classes: int, features: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("means", torch.zeros(classes, features))
        self.register_buffer("known", torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        features_BF = features_of(self.model)(x)
        norms_BK = torch.cdist(features_BF, self.means, compute_mode="donot_use_mm_for_euclid_dist")
        distances_BK = norms_BK**2 / self.means.shape[1]
        farthest_B1 = (distances_BK * self.known).amax(1, keepdim=True)
        return -torch.where(self.known > 0, distances_BK, farthest_B1 + 1)


def table(prototypes: Prototypes, classes: int) -> dict[str, Tensor]:
    """One row per class: ``means`` (K, F), and ``known`` (K,), 1 where there is a prototype and 0 elsewhere."""
    means = prototypes.means.new_zeros(classes, prototypes.means.shape[1])
    known = prototypes.means.new_zeros(classes)
    means[prototypes.classes], known[prototypes.classes] = prototypes.means, 1.0
    return {"means": means, "known": known}


def overlaid(below: Prototypes, above: Prototypes) -> Prototypes:
    """Both sets of prototypes; where both have a class, those of ``above``."""
    rows = dict(zip(below.classes.tolist(), below.means, strict=True))
    rows |= dict(zip(above.classes.tolist(), above.means, strict=True))
    if not rows:
        return above
    classes = sorted(rows)
    return Prototypes(torch.tensor(classes), torch.stack([rows[j] for j in classes]))


@dataclass(frozen=True)
class Global:
    """Global state: the prototypes C̄."""

    prototypes: Prototypes


@dataclass(frozen=True)
class Private:
    """Private state of a client: ω_k, and the prototypes it answers by."""

    omega: Params
    prototypes: Prototypes


@dataclass(frozen=True)
class Down:
    """Server → client: C̄, and how long to train."""

    prototypes: Prototypes
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: C_k, and n_kj of its classes, (P,) int64."""

    prototypes: Prototypes
    counts: Tensor


class FedProto(HeterogeneousAlgorithm[Global, Private, Down, Up]):
    """FedProto: clients share the mean features of their classes, and no parameters."""

    Config = FedProtoConfig
    refuses = dict.fromkeys(
        ("regression", "multi_label", "next_token"), "its prototypes are the mean features of a class"
    )
    shares_a_part = True
    config: FedProtoConfig

    def __init__(self, config: Any, model: Buildable) -> None:
        """Refuse a family whose features differ in width."""
        super().__init__(config, model)
        self.width, self.classes = common_width(self.family, "FedProto"), self.family.members[0].classes

    def no_prototypes(self) -> Prototypes:
        """The prototypes before the first round: none."""
        return Prototypes(torch.zeros(0, dtype=torch.int64), torch.zeros(0, self.width))

    def init_global(self, seed: int) -> Global:
        """The global state without any prototype."""
        return Global(self.no_prototypes())

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """A freshly initialised private model, without prototypes."""
        return Private(self.fresh_model(info, seed), self.no_prototypes())

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The prototypes C̄, and how long to train."""
        return Down(g.prototypes, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """ω_k ← local SGD under the pull of C̄; then C_k."""
        spec, shared = self.architecture(info), table(down.prototypes, self.classes)
        request = self.config.train(spec, state.omega, down.length)
        trained: Trained = yield replace(request, loss=PrototypeLoss(self.config.lam), constants=shared)
        found: Represented = yield Represent(spec, trained.params)
        own = Prototypes(found.classes, found.means)
        return ClientResult(Up(own, found.counts), Private(trained.params, overlaid(down.prototypes, own)))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """C̄^(j) ← Σ_k (n_kj / Σ_k n_kj) C_k^(j)."""
        require_cohort("FedProto", ups)
        sums = torch.zeros(self.classes, self.width, dtype=torch.float64)
        counts = torch.zeros(self.classes, dtype=torch.int64)
        for up in ups:
            own = up.message.prototypes
            sums[own.classes] += own.means.double() * up.message.counts.unsqueeze(1)
            counts[own.classes] += up.message.counts
        seen = counts.nonzero().squeeze(1)
        means = (sums[seen] / counts[seen].unsqueeze(1)).float()
        return Global(overlaid(g.prototypes, Prototypes(seen, means)))

    def personal_model(self, state: Private) -> Params:
        """The private model ω_k of the client."""
        return state.omega

    def personal_evaluation(self, info: ClientInfo, state: Private) -> Evaluate:
        """PM answers by the client's own prototypes, or by its head where it has none or is to answer by that."""
        if self.config.answer != "own" or not len(state.prototypes.classes):
            return super().personal_evaluation(info, state)
        return self._by_prototypes(info, state, table(state.prototypes, self.classes))

    def _by_prototypes(self, info: ClientInfo, state: Private, prototypes: Params) -> Evaluate:
        params = {**join_params(model=state.omega), **prototypes}
        return Evaluate(NearestPrototype(self.architecture(info), self.width), params)

    def global_model(self, g: Global) -> Params | None:
        """The prototypes C̄, where clients answer by them; ``means`` (K, F) and ``known`` (K,)."""
        return table(g.prototypes, self.classes) if self.config.answer == "global" else None

    def client_evaluate(
        self, info: ClientInfo, state: Private | None, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """Evaluate PM; by C̄ where it is shared, and there are prototypes in it."""
        prototypes = shared.get("GM")
        if prototypes is None or not prototypes["known"].any():
            return (yield from super().client_evaluate(info, state, shared))
        known = self.init_client(info, 0) if state is None else state
        return {"PM": (yield self._by_prototypes(info, known, prototypes))}


METHOD = FedProto
