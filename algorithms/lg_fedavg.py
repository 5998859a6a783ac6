"""LG-FedAvg: private representations under a shared head.

Liang et al., "Think Locally, Act Globally: Federated Learning with Local and Global Representations", 2020
(arXiv 2001.01523), with representations of different architectures.

Symbols
    ω_k     client k's private features, of its own architecture
    h       the head (B, F) → (B, K), the same everywhere
    PM      ω_k under the head as client k last trained it
    n_k     client k's training samples
    E, B    local epochs, batch size

Per round: (ω_k, h_k) ← E epochs of SGD from (ω_k, h) on client k's data;  h ← Σ_k (n_k / n) h_k over the cohort.

Choices of ours: features and head train together; a client is evaluated with the head it trained, not with the average,
which its features have not met yet. Deviations: the representations are learnt from the labels alone; the paper's
self-supervised and adversarial losses on them, which are optional there, are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strata.algorithms.shared.heterogeneous import HeterogeneousAlgorithm, common_width
from strata.engine.errors import ConfigError
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd
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
from strata.engine.models.base import Buildable, head_names, init_params
from strata.engine.params import Params, weighted_mean


@dataclass(frozen=True)
class LgFedAvgConfig(LocalSgd):
    """Settings of LG-FedAvg."""


@dataclass(frozen=True)
class Global:
    """Global state: the head h, under its names in the models."""

    h: Params


@dataclass(frozen=True)
class Private:
    """Private state of a client: its whole model, features ω_k and head h_k."""

    model: Params


@dataclass(frozen=True)
class Down:
    """Server → client: the head, and how long to train."""

    h: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: the trained head h_k."""

    h: Params


class LgFedAvg(HeterogeneousAlgorithm[Global, Private, Down, Up]):
    """LG-FedAvg: private features of each client's own architecture under an averaged head."""

    Config = LgFedAvgConfig
    averages = True
    merges = "samples"
    config: LgFedAvgConfig

    def __init__(self, config: Any, model: Buildable) -> None:
        """Refuse a family whose heads differ."""
        super().__init__(config, model)
        common_width(self.family, "LG-FedAvg")
        self.head = head_names(self.family.members[0])
        models = [(init_params(member, 0), head_names(member)) for member in self.family.members]
        shapes = [{name: tuple(params[name].shape) for name in head} for params, head in models]
        if any(other != shapes[0] for other in shapes):
            raise ConfigError("LG-FedAvg shares the head, and those of model.family differ. Give all the same layers.")

    def init_global(self, seed: int) -> Global:
        """A freshly initialised head."""
        return Global(self._head_of(init_params(self.family.members[0], seed)))

    def _head_of(self, model: Params) -> Params:
        return {name: model[name] for name in self.head}

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """A freshly initialised private model."""
        return Private(self.fresh_model(info, seed))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The head h, and how long to train."""
        return Down(g.h, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """(ω_k, h_k) ← local SGD from (ω_k, h)."""
        start = {**state.model, **down.h}
        trained: Trained = yield self.config.train(self.architecture(info), start, down.length)
        return ClientResult(Up(self._head_of(trained.params)), Private(trained.params))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """h ← Σ_k (n_k / n) h_k."""
        require_cohort("LG-FedAvg", ups)
        return Global(weighted_mean([up.message.h for up in ups], [up.samples for up in ups]))

    def personal_model(self, state: Private) -> Params:
        """The client's features ω_k under the head h_k that it trained."""
        return state.model


METHOD = LgFedAvg
