"""FedRep: a shared body, and a head of each client's own; a call trains first the one and then the other.

Collins, Hassani, Mokhtari and Shakkottai, "Exploiting Shared Representations for Personalized Federated Learning", ICML
2021 (arXiv 2102.07078), algorithm 1.

Symbols
    φ       body: every parameter but the head's, batch norm's statistics included
    φ_k     client k's body after its local work
    h_k     client k's head
    τ       epochs of the head per call;  E, B: epochs of the body, batch size

Per call: h_k ← τ epochs of SGD on (φ, h_k) with φ frozen;  φ_k ← E epochs of SGD from φ under that h_k, frozen.
Then φ ← mean_k φ_k, a uniform mean over the cohort.
Evaluation: PM is (φ, h_k), the averaged body under the client's own head. There is no GM: φ has no head for everybody.

Choices of ours, which the paper leaves open: each client draws its first head from a seed of its own; what is frozen is
in evaluation mode, so that batch norm's statistics stand still with φ. Deviations: none known beyond these.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from strata.algorithms.shared.bodies import body_names, part
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm
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
from strata.engine.method.requests import Evaluate, Evaluation, Request, Trained
from strata.engine.models.base import Buildable, head_names, init_params
from strata.engine.options import option
from strata.engine.params import Params, uniform_mean


@dataclass(frozen=True)
class FedRepConfig(LocalSgd):
    """Settings of FedRep; ``epochs`` (or ``steps``) are the body's."""

    head_epochs: int = option(10, "τ: epochs of the head per call, where head_steps is 0", ge=0)
    head_steps: int = option(0, "minibatch steps of the head per call; 0: count in head_epochs", ge=0)

    def validate(self, path: str) -> None:
        """Both parts must train for some time."""
        super().validate(path)
        if not self.head_length.count:
            raise ConfigError(f"{path}head_epochs=0 and {path}head_steps=0: one of the two must be ≥ 1.")

    @property
    def head_length(self) -> Length:
        """How long the head trains per call."""
        return Length(self.head_epochs, self.head_steps)


@dataclass(frozen=True)
class Global:
    """Global state: φ, under its names in the model."""

    body: Params


@dataclass(frozen=True)
class Private:
    """Private state of a client: h_k."""

    head: Params


@dataclass(frozen=True)
class Down:
    """Server → client: φ, and how long to train it."""

    body: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: φ_k."""

    body: Params


class FedRep(FlatAlgorithm[Global, Private, Down, Up]):
    """FedRep: an averaged body under each client's own head."""

    Config = FedRepConfig
    has_personal_model = True
    shares_a_part = True
    merges = "evenly"
    config: FedRepConfig

    def __init__(self, config: FedRepConfig, model: Buildable) -> None:
        """Tell body and head apart; refuse a model that has no head of its own."""
        super().__init__(config, model)
        self.body, self.head = body_names(model, "FedRep"), frozenset(head_names(model))

    def init_global(self, seed: int) -> Global:
        """A freshly initialised body φ."""
        return Global(part(init_params(self.model, seed), self.body))

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """A freshly initialised head h_k."""
        return Private(part(init_params(self.model, seed), self.head))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The body φ, and how long to train it."""
        return Down(g.body, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """h_k ← local SGD under φ;  φ_k ← local SGD from φ under h_k."""
        start, config = {**down.body, **state.head}, self.config
        first = config.train(self.model, start, config.head_length)
        headed: Trained = yield replace(first, trainable=self.head, frozen=("features",))
        second = config.train(self.model, headed.params, down.length)
        trained: Trained = yield replace(second, trainable=self.body, frozen=("head",))
        return ClientResult(Up(part(trained.params, self.body)), Private(part(headed.params, self.head)))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """φ ← mean_k φ_k."""
        require_cohort("FedRep", ups)
        return Global(uniform_mean([up.message.body for up in ups]))

    def global_model(self, g: Global) -> Params:
        """The body φ, which clients put under their own heads."""
        return g.body

    def client_evaluate(
        self, info: ClientInfo, state: Private | None, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """Scores of PM, which is φ under the client's own head; one that was never called has it as it was drawn."""
        known = self.init_client(info, 0) if state is None else state
        return {"PM": (yield Evaluate(self.model, {**shared["GM"], **known.head}))}


METHOD = FedRep
