"""FedBABU: the body is trained and averaged under a head that never moves; clients fine-tune when they are served.

Oh, Kim and Yun, "FedBABU: Toward Enhanced Representation for Federated Image Classification", ICLR 2022
(arXiv 2106.06042).

Symbols
    b       body: every parameter but the head's, batch norm's statistics included
    h       head, as it was drawn before the first round
    b_k     client k's body after its local epochs;  n_k: client k's training samples
    E, B    local epochs, batch size;  τ: epochs of fine-tuning

Per round: b_k ← E epochs from (b, h) on client k's data with h frozen;  b ← Σ_k (n_k / n) b_k over the cohort.
Evaluation: GM is (b, h). PM is what τ epochs on client k's own data make of (b, h), with everything trained.

Choices of ours: fine-tuning uses the local optimiser's settings, its learning rate before any schedule. It is done anew
in each evaluation, by all clients, from the body as it is then; like all evaluation it costs no virtual time. So a
curve of PM shows what clients would have if they were served at that moment. h is sent with every body, as the paper's
model is, and never comes back. Deviations: none known beyond these.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from strata.algorithms.shared.bodies import body_names, part
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
from strata.engine.method.requests import Evaluate, Evaluation, Request, Trained
from strata.engine.models.base import Buildable, init_params
from strata.engine.options import option
from strata.engine.params import Params, weighted_mean


@dataclass(frozen=True)
class FedBABUConfig(LocalTraining):
    """Settings of FedBABU."""

    tune_epochs: int = option(1, "τ: epochs of fine-tuning before a client's model is evaluated", ge=0)
    tune_steps: int = option(0, "minibatch steps of fine-tuning; 0: count in tune_epochs", ge=0)


@dataclass(frozen=True)
class Global:
    """Global state: b and h, under their names in the model."""

    w: Params


@dataclass(frozen=True)
class Down:
    """Server → client: b and h, and how long to train."""

    w: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: the trained body b_k."""

    body: Params


class FedBABU(FlatAlgorithm[Global, None, Down, Up]):
    """FedBABU: a body trained and averaged under a fixed head."""

    Config = FedBABUConfig
    averages = True
    merges = "samples"
    stateless = True
    has_personal_model = True
    config: FedBABUConfig

    def __init__(self, config: FedBABUConfig, model: Buildable) -> None:
        """Tell body and head apart; refuse a model that has no head of its own."""
        super().__init__(config, model)
        self.body = body_names(model, "FedBABU")

    def init_global(self, seed: int) -> Global:
        """A freshly initialised model; its head stays."""
        return Global(init_params(self.model, seed))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The global model (b, h), and how long to train it."""
        return Down(g.w, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: None, down: Down, context: Context) -> ClientStep[None, Up]:
        """b_k ← local training from (b, h), h frozen."""
        request = self.config.train_in(context.round, self.model, down.w, down.length)
        trained: Trained = yield replace(request, trainable=self.body)
        return ClientResult(Up(part(trained.params, self.body)), None)

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """b ← Σ_k (n_k / n) b_k, under the same head."""
        require_cohort("FedBABU", ups)
        return Global({**g.w, **weighted_mean([up.message.body for up in ups], [up.samples for up in ups])})

    def global_model(self, g: Global) -> Params:
        """The global model (b, h)."""
        return g.w

    def client_evaluate(
        self, info: ClientInfo, state: None, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """Scores of GM as it is and of PM, which is GM after fine-tuning on the client's own data."""
        config, w = self.config, shared["GM"]
        gm: Evaluation = yield Evaluate(self.model, w)
        tuning = Length(config.tune_epochs, config.tune_steps)
        if not tuning.count:
            return {"GM": gm, "PM": gm}
        tuned: Trained = yield config.train_in(1, self.model, w, tuning)
        pm: Evaluation = yield Evaluate(self.model, tuned.params)
        return {"GM": gm, "PM": pm}


METHOD = FedBABU
