"""Ditto: FedAvg's model, and beside it a personal one of each client that is pulled towards it.

Li, Hu, Beirami and Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021
(arXiv 2012.04221), algorithm 1.

Symbols
    w       global model (GM)
    w_k     client k's copy of it after its local work
    v_k     client k's personal model (PM)
    λ       strength of the pull of v_k towards w
    n_k     client k's training samples
    E, B    local epochs, batch size

Per call: w_k ← E epochs of SGD from w on f_k;  v_k ← v_k − lr (∇f_k(v_k) + λ (v_k − w)) in each step, with w as it was
sent.  Then w ← Σ_k (n_k / n) w_k over the cohort: FedAvg's w, whatever becomes of the personal models.

Choices of ours, which the paper leaves open: v_k begins at the w of the client's first call, and until then the client
is served with w; the average is FedAvg's; v_k trains as long as w_k does, on batches drawn apart, unless
``personal_epochs`` or ``personal_steps`` say otherwise. λ is the same for all clients; the paper also lets each client
choose its own by validation. Deviations: none known beyond these. λ = 0 leaves each v_k to plain local training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
from strata.engine.method.requests import Pull, Trained
from strata.engine.models.base import init_params
from strata.engine.options import option
from strata.engine.params import Params, weighted_mean


@dataclass(frozen=True)
class DittoConfig(LocalSgd):
    """Settings of Ditto."""

    lam: float = option(0.1, "λ: pull of a personal model towards the global one", ge=0)
    personal_epochs: int = option(0, "epochs of a personal model per call; 0: as long as the global one trains", ge=0)
    personal_steps: int = option(0, "steps of a personal model per call; 0: count in personal_epochs", ge=0)

    def validate(self, path: str) -> None:
        """Refuse a pull under which personal models do not contract."""
        super().validate(path)
        if not self.lr * self.lam < 2:
            raise ConfigError(f"{path}lr·{path}lam = {self.lr * self.lam:g} makes models diverge: expected < 2.")


@dataclass(frozen=True)
class Global:
    """Global state: w."""

    w: Params


@dataclass(frozen=True)
class Personal:
    """Private state of a client: v_k, None before its first call."""

    v: Params | None = None


@dataclass(frozen=True)
class Down:
    """Server → client: w, and how long to train it."""

    w: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: w_k."""

    w: Params


class Ditto(FlatAlgorithm[Global, Personal, Down, Up]):
    """Ditto: personal models that are pulled towards FedAvg's."""

    Config = DittoConfig
    has_personal_model = True
    merges = "samples"
    config: DittoConfig

    def init_global(self, seed: int) -> Global:
        """A freshly initialised w."""
        return Global(init_params(self.model, seed))

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No personal model before the first call."""
        return Personal()

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The global model w, and how long to train it."""
        return Down(g.w, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Personal, down: Down, context: Context) -> ClientStep[Personal, Up]:
        """w_k ← local SGD from w;  v_k ← local SGD from v_k under the pull of w."""
        config = self.config
        shared: Trained = yield config.train(self.model, down.w, down.length)
        own = Length(config.personal_epochs, config.personal_steps)
        pull = (Pull(down.w, config.lam),) if config.lam else ()
        start = down.w if state.v is None else state.v
        personal: Trained = yield config.train(self.model, start, own if own.count else down.length, pull)
        return ClientResult(Up(shared.params), Personal(personal.params))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """w ← Σ_k (n_k / n) w_k."""
        require_cohort("Ditto", ups)
        return Global(weighted_mean([up.message.w for up in ups], [up.samples for up in ups]))

    def personal_model(self, state: Personal) -> Params | None:
        """The personal model v_k of the client."""
        return state.v

    def global_model(self, g: Global) -> Params:
        """The global model w."""
        return g.w


METHOD = Ditto
