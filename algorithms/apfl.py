"""APFL: each client mixes a model of its own with the one it trains for everybody.

Deng, Kamani and Mahdavi, "Adaptive Personalized Federated Learning" (arXiv 2003.13461), algorithm 1.

Symbols
    w           global model (GM)
    w_k         client k's copy of it during a call, and after its last one
    v_k         client k's own model
    a_k         how much of v_k is in the mixture, 0..1
    v̄_k         a_k v_k + (1 − a_k) w_k, client k's personal model (PM)
    η           step size of both models ("lr");  η_a: that of a_k ("alpha_lr")

Per call: w_k ← w;  where η_a > 0, a_k ← a_k − η_a ⟨v_k − w_k, ∇f_k(v̄_k; batch)⟩, one step, back into 0..1;
then in each local step, on one batch and at once
    w_k ← w_k − η ∇f_k(w_k),    v_k ← v_k − η ∇_v f_k(v̄_k) = v_k − η a_k ∇f_k(v̄_k).
Then w ← mean_k w_k, a uniform mean over the cohort: FedAvg's w for clients of equal size, whatever a_k is.

Choices of ours, which the paper leaves open: v_k begins at the w of the client's first call, and until then the client
is served with w; a client that takes no part keeps its w_k; a_k makes one step per call, on a batch of its own; batch
norm's statistics of v̄_k are those met by v̄_k, not a mixture. Deviations: none known beyond these. a = 0 without η_a
leaves v̄_k at w_k, a = 1 at a model that is trained alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from strata.engine.method.algorithm import FlatAlgorithm
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
from strata.engine.method.requests import Sgd, Trained
from strata.engine.models.base import Buildable, init_params
from strata.engine.models.spec import join_params, split_params
from strata.engine.options import option
from strata.engine.params import Params, uniform_mean


@dataclass(frozen=True)
class ApflConfig(LocalSgd):
    """Settings of APFL."""

    alpha: float = option(0.5, "a: how much of a client's own model is in its mixture, at first", ge=0, le=1)
    alpha_lr: float = option(0.0, "η_a: step size of a, a step per call; 0: a stays as it is", ge=0)


@dataclass(frozen=True)
class Mixture:
    """The architecture in which w, v and their mixture train together; ``forward`` gives the outputs of w and of v̄.

    Its parameters are ``w.NAME``, ``v.NAME``, and ``a`` ().
    """

    model: Buildable

    def build(self) -> nn.Module:
        """Make a module with two models of the architecture, and a = 0."""
        return _Mixture(self.model.build(), self.model.build())


class _Mixture(nn.Module):
    def __init__(self, w: nn.Module, v: nn.Module) -> None:
        super().__init__()
        self.w, self.v, self.a = w, v, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        w = {name: value.detach() for name, value in self.w.named_parameters()}
        mixed = {name: self.a * value + (1 - self.a) * w[name] for name, value in self.v.named_parameters()}
        return self.w(x), functional_call(self.v, mixed, (x,))


def both_losses(module: nn.Module, batch: Batch) -> Tensor:
    """f(w) + f(v̄) of each sample, (B,); f(v̄) moves v and a, and leaves w alone."""
    logits, mixed = module(batch.x)
    return target_loss(logits, batch.y) + target_loss(mixed, batch.y)


@dataclass(frozen=True)
class Global:
    """Global state: w."""

    w: Params


@dataclass(frozen=True)
class Private:
    """Private state of a client: a_k, and after its first call v_k and w_k."""

    a: float
    v: Params | None = None
    w: Params | None = None


@dataclass(frozen=True)
class Down:
    """Server → client: w, and how long to train it."""

    w: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: w_k."""

    w: Params


class Apfl(FlatAlgorithm[Global, Private, Down, Up]):
    """APFL: personal models that are mixtures of a client's own model and its copy of the global one."""

    Config = ApflConfig
    has_personal_model = True
    merges = "evenly"
    config: ApflConfig

    def __init__(self, config: ApflConfig, model: Buildable) -> None:
        """Find out what of the model is a parameter."""
        super().__init__(config, model)
        self.mixture = Mixture(model)
        self.parameters = [name for name, _ in model.build().named_parameters()]
        self.models = frozenset(f"{part}.{name}" for part in ("w", "v") for name in self.parameters)

    def init_global(self, seed: int) -> Global:
        """A freshly initialised w."""
        return Global(init_params(self.model, seed))

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """The configured a, and no model before the first call."""
        return Private(self.config.alpha)

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The global model w, and how long to train it."""
        return Down(g.w, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """a_k ← a step of its own;  (w_k, v_k) ← local SGD from (w, v_k), both on the same batches."""
        models, a = join_params(w=down.w, v=down.w if state.v is None else state.v), torch.tensor(state.a)
        request = replace(self.config.train(self.mixture, {**models, "a": a}, down.length), loss=both_losses)
        if self.config.alpha_lr:
            one = replace(request, optimizer=Sgd(self.config.alpha_lr), length=Length(steps=1))
            moved: Trained = yield replace(one, trainable=frozenset({"a"}))
            a = moved.params["a"].clamp(0, 1)
        trained: Trained = yield replace(request, start={**models, "a": a}, trainable=self.models)
        parts = split_params({name: value for name, value in trained.params.items() if name != "a"})
        mixed = Private(float(a), parts["v"], parts["w"])
        return ClientResult(Up(parts["w"]), mixed, {"alpha": mixed.a})

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """w ← mean_k w_k."""
        require_cohort("APFL", ups)
        return Global(uniform_mean([up.message.w for up in ups]))

    def personal_model(self, state: Private) -> Params | None:
        """The mixture v̄_k = a_k v_k + (1 − a_k) w_k of the client."""
        if state.v is None or state.w is None:
            return None
        mixed = {name: state.a * state.v[name] + (1 - state.a) * state.w[name] for name in self.parameters}
        return {**state.v, **mixed}

    def global_model(self, g: Global) -> Params:
        """The global model w."""
        return g.w


METHOD = Apfl
