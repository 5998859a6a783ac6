"""Standalone: every client for itself, with a model of its own architecture.

The lower bound that federated methods are held against, e.g. in pFedLoRA's comparison (Yi et al., arXiv 2310.13283).

Symbols
    ω_k     client k's private model (PM)
    E, B    local epochs, batch size

Per round: ω_k ← E epochs of SGD from ω_k on client k's data. Nothing is shared; a call costs the two numbers that say
how long to train.

Deviations: none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from strata.algorithms.shared.heterogeneous import HeterogeneousAlgorithm
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
from strata.engine.params import Params


@dataclass(frozen=True)
class StandaloneConfig(LocalSgd):
    """Settings of Standalone."""


@dataclass(frozen=True)
class Global:
    """Global state: nothing."""


@dataclass(frozen=True)
class Private:
    """Private state of a client: ω_k."""

    omega: Params


@dataclass(frozen=True)
class Down:
    """Server → client: how long to train."""

    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: nothing."""


class Standalone(HeterogeneousAlgorithm[Global, Private, Down, Up]):
    """Standalone: every client trains a private model, and nothing is shared."""

    Config = StandaloneConfig
    config: StandaloneConfig

    def init_global(self, seed: int) -> Global:
        """A global state with nothing in it."""
        return Global()

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """A freshly initialised private model."""
        return Private(self.fresh_model(info, seed))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The length of the client's training, and no model."""
        return Down(Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """ω_k ← local SGD from ω_k."""
        trained: Trained = yield self.config.train(self.architecture(info), state.omega, down.length)
        return ClientResult(Up(), Private(trained.params))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """The global state as it is: there is nothing to aggregate."""
        require_cohort("Standalone", ups)
        return g

    def personal_model(self, state: Private) -> Params:
        """The private model ω_k of the client."""
        return state.omega


METHOD = Standalone
