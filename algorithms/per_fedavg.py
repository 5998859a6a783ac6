"""Per-FedAvg, first order: a model that is good after a step of descent on a client's own data.

Fallah, Mokhtari and Ozdaglar, "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic
Meta-Learning Approach", NeurIPS 2020 (arXiv 2002.07948), algorithm 1, in its first-order variant.

Symbols
    w       global model (GM), the initial point that is learnt
    w_k     client k's copy of it during a call
    θ       w_k after a step ahead
    α       step size of the step ahead, and of the step that personalises
    β       step size of w_k (``lr``)
    τ, B    local steps, batch size

Per call: w_k ← w, then τ times  θ = w_k − α ∇f_k(w_k; batch 1),  w_k ← w_k − β ∇f_k(θ; batch 2), batches drawn apart.
Then w ← mean_k w_k, a uniform mean over the cohort.
Evaluation: PM is w − α ∇f_k(w), with the gradient over all of client k's training data.

Choices of ours: the step that personalises takes all of the data, as the paper's objective f_k(w − α ∇f_k(w)) does, so
that nothing is drawn in an evaluation; batch norm's statistics stand still in it. ``epochs`` counts local work in
passes over the data, of which a step takes two batches. Deviations: the factor I − α ∇²f_k(w_k; batch 3) is left out,
as in the variant that the paper calls FO; α near 0 is FedAvg with a uniform mean.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from strata.engine.method.requests import Evaluate, Evaluation, Gradient, MeanGradient, Request, Trained
from strata.engine.models.base import init_params
from strata.engine.options import option
from strata.engine.params import Params, uniform_mean


@dataclass(frozen=True)
class PerFedAvgConfig(LocalSgd):
    """Settings of Per-FedAvg."""

    alpha: float = option(0.01, "α: step size ahead, and of the step that personalises; lr is β", gt=0)


@dataclass(frozen=True)
class Global:
    """Global state: w."""

    w: Params


@dataclass(frozen=True)
class Down:
    """Server → client: w, and how long to train it."""

    w: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: w_k."""

    w: Params


class PerFedAvg(FlatAlgorithm[Global, None, Down, Up]):
    """Per-FedAvg: a global model that a step of each client's own makes personal."""

    Config = PerFedAvgConfig
    stateless = True
    has_personal_model = True
    merges = "evenly"
    config: PerFedAvgConfig

    def init_global(self, seed: int) -> Global:
        """A freshly initialised w."""
        return Global(init_params(self.model, seed))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The global model w, and how long to train it."""
        return Down(g.w, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: None, down: Down, context: Context) -> ClientStep[None, Up]:
        """w_k ← τ steps from w that look a step of α ahead."""
        request = self.config.train(self.model, down.w, down.length)
        trained: Trained = yield replace(request, look_ahead=self.config.alpha)
        return ClientResult(Up(trained.params), None)

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """w ← mean_k w_k."""
        require_cohort("Per-FedAvg", ups)
        return Global(uniform_mean([up.message.w for up in ups]))

    def global_model(self, g: Global) -> Params:
        """The global model w."""
        return g.w

    def client_evaluate(
        self, info: ClientInfo, state: None, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """Scores of GM as it is, and of PM, which is GM after a step of α on the client's training data."""
        w = shared["GM"]
        gm: Evaluation = yield Evaluate(self.model, w)
        found: MeanGradient = yield Gradient(self.model, w)
        slope = found.gradient
        stepped = {
            name: value - self.config.alpha * slope[name] if name in slope else value for name, value in w.items()
        }
        pm: Evaluation = yield Evaluate(self.model, stepped)
        return {"PM": pm, "GM": gm}


METHOD = PerFedAvg
