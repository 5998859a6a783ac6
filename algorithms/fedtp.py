"""FedTP: a hypernetwork on the server generates every client's attention projections; the rest is FedAvg.

Li, Cai, Wang, Tang, Ding, Huang and Shi, "FedTP: Federated Learning by Transformer Personalization", IEEE TNNLS 2023
(arXiv 2211.01572).

Symbols
    ξ           shared parameters: all but the projections
    θ_k         client k's projections to queries, keys and values, of all attention layers
    h(e; φ)     hypernetwork: e → relu(A e + a) → one linear map per projection
    e_k         learnable embedding of client k
    ξ_k, θ'_k   client k's after its local epochs;  n_k: client k's training samples
    η           step size of the server (``server_lr``)

Per round
    1. server   θ_k = h(e_k; φ)
    2. client   (ξ_k, θ'_k) ← E epochs from (ξ, θ_k) on client k's data
    3. server   ξ ← Σ_k (n_k / n) ξ_k
                φ ← φ − η Σ_k (n_k / n) J_φᵀ (θ_k − θ'_k),   e_k ← e_k − η (n_k / n) J_eᵀ (θ_k − θ'_k)

J is the Jacobian of θ_k by φ and e_k, so the step descends ½ ‖h(e_k; φ) − θ'_k‖².

Choices of ours: the maps of h start with a fresh model's projections as biases and small weights, so that all clients
start near an ordinary network, and with zero weights the first round at η = 1 is FedAvg's. e_k is drawn from the run's
seed and the client's id when the client first takes part. Biases of the projections are generated as well. PM is the
whole model as client k last trained it (the paper evaluates before training); a client never called is served by GM:
(ξ, h(ē)), ē the mean of the embeddings so far.

Deviations: h has one hidden layer, and φ and e move by plain gradient descent; the hypernetwork that the authors
released has three hidden layers, and its optimiser momentum and weight decay. None known beyond these.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.length import Length
from strata.engine.method.local import LocalTraining
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
from strata.engine.models.sequences import projection_names
from strata.engine.options import option
from strata.engine.params import Params, weighted_mean
from strata.engine.seeding import derive


@dataclass(frozen=True)
class FedTPConfig(LocalTraining):
    """Settings of FedTP."""

    embedding: int = option(32, "numbers in a client's embedding e_k", ge=1)
    hidden: int = option(64, "hidden units of the hypernetwork", ge=1)
    spread: float = option(0.01, "standard deviation of the initial weights of the hypernetwork's maps", ge=0)
    server_lr: float = option(0.5, "η: step size of hypernetwork and embeddings", gt=0)


@dataclass(frozen=True)
class Global:
    """Global state: ξ, φ, and e_k by client; the seed from which further embeddings are drawn."""

    xi: Params
    phi: Params
    embeddings: Mapping[int, Tensor]
    seed: int


@dataclass(frozen=True)
class Personal:
    """Private state of a client: its model as it last trained it, None before the first call."""

    model: Params | None = None


@dataclass(frozen=True)
class Down:
    """Server → client: ξ, θ_k, and how long to train."""

    xi: Params
    theta: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: ξ_k and θ'_k."""

    xi: Params
    theta: Params


class FedTP(FlatAlgorithm[Global, Personal, Down, Up]):
    """FedTP: a hypernetwork generates each client's attention projections, and the rest is averaged."""

    Config = FedTPConfig
    has_personal_model = True
    config: FedTPConfig

    def __init__(self, config: FedTPConfig, model: Buildable) -> None:
        """Find the projections; refuse a model without attention."""
        super().__init__(config, model)
        self.names = projection_names(model)
        if not self.names:
            raise ConfigError(
                "FedTP generates the projections of attention layers, and this model has no "
                "strata.engine.models.sequences.Attention. Choose model=vit_small or model=vit."
            )

    def init_global(self, seed: int) -> Global:
        """A fresh model, split; a fresh hypernetwork around its projections."""
        model = init_params(self.model, seed)
        phi = init_hypernetwork(
            {name: model[name] for name in self.names},
            self.config.embedding,
            self.config.hidden,
            self.config.spread,
            derive(seed, "hypernetwork"),
        )
        return Global({name: value for name, value in model.items() if name not in self.names}, phi, {}, seed)

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No personal model before the first call."""
        return Personal()

    def embedding(self, g: Global, client: int) -> Tensor:
        """The embedding e_k of a client; of about unit length where it was not learnt yet."""
        if client in g.embeddings:
            return g.embeddings[client]
        with torch_scope(derive(g.seed, "embedding", client)):
            return torch.randn(self.config.embedding) / math.sqrt(self.config.embedding)

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The shared ξ, the client's own projections θ_k, and how long to train."""
        with torch.no_grad():
            theta = self._shaped(generate(g.phi, self.embedding(g, info.id)))
        return Down(g.xi, theta, Length.of(assignment))

    def _shaped(self, theta: Params) -> Params:
        return {name: theta[name] for name in self.names}

    def client_step(self, info: ClientInfo, state: Personal, down: Down, context: Context) -> ClientStep[Personal, Up]:
        """(ξ_k, θ'_k) ← local training from (ξ, θ_k)."""
        start = {**down.xi, **down.theta}
        trained: Trained = yield self.config.train_in(context.round, self.model, start, down.length)
        model = trained.params
        return ClientResult(Up({name: model[name] for name in down.xi}, self._shaped(model)), Personal(model))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """FedAvg on ξ, a gradient step on φ and the embeddings of the cohort."""
        require_cohort("FedTP", ups)
        total = float(sum(up.samples for up in ups))
        phi, embeddings = {name: value.clone() for name, value in g.phi.items()}, dict(g.embeddings)
        for up in ups:
            e = self.embedding(g, up.sender)
            by_phi, by_e = gradients(g.phi, e, up.message.theta)
            step = -self.config.server_lr * up.samples / total
            for name, gradient in by_phi.items():
                phi[name].add_(gradient, alpha=step)
            embeddings[up.sender] = torch.add(e, by_e, alpha=step)
        xi = weighted_mean([up.message.xi for up in ups], [up.samples for up in ups])
        return Global(xi, phi, dict(sorted(embeddings.items())), g.seed)

    def personal_model(self, state: Personal) -> Params | None:
        """The client's model as it last trained it."""
        return state.model

    def global_model(self, g: Global) -> Params:
        """The global model (ξ, h(ē)), for clients that were never called."""
        known = list(g.embeddings.values())
        mean = torch.stack(known).mean(0) if known else torch.zeros(self.config.embedding)
        with torch.no_grad():
            return {**g.xi, **self._shaped(generate(g.phi, mean))}


def init_hypernetwork(theta: Params, embedding: int, hidden: int, spread: float, seed: int) -> Params:
    """Fresh φ, as flat names: ``A``, ``a``, and ``NAME/weight``, ``NAME/bias`` per projection, whose bias is ``theta``.

    Args:
        theta: projections of a fresh model, by name.
        embedding: size of e.
        hidden: units of the hidden layer.
        spread: standard deviation of the maps' weights.
        seed: all is drawn from it.
    """
    with torch_scope(seed):
        layer = torch.nn.Linear(embedding, hidden)
        phi = {"A": layer.weight.detach(), "a": layer.bias.detach()}
        for name, value in theta.items():
            phi[f"{name}/weight"] = spread * torch.randn(*value.shape, hidden)
            phi[f"{name}/bias"] = value.clone()
    return phi


def generate(phi: Params, e: Tensor) -> Params:
    """h(e; φ): the projections by name, in their own shapes."""
    hidden = F.relu(phi["A"] @ e + phi["a"])
    names = [name.removesuffix("/bias") for name in phi if name.endswith("/bias")]
    return {name: phi[f"{name}/weight"] @ hidden + phi[f"{name}/bias"] for name in names}


def gradients(phi: Params, e: Tensor, trained: Params) -> tuple[Params, Tensor]:
    """J_φᵀ (θ − θ') and J_eᵀ (θ − θ') of θ = h(e; φ) and the trained θ'."""
    names = list(phi)
    inputs = [value.detach().clone().requires_grad_() for value in (*phi.values(), e)]
    theta = generate(dict(zip(names, inputs, strict=False)), inputs[-1])
    by_theta = [theta[name].detach() - trained[name] for name in theta]
    *by_phi, by_e = torch.autograd.grad(list(theta.values()), inputs, grad_outputs=by_theta)
    return dict(zip(names, by_phi, strict=True)), by_e


METHOD = FedTP
