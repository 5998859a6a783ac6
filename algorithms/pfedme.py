"""pFedMe: personalised models by Moreau envelopes around a shared one.

T. Dinh et al., "Personalized Federated Learning with Moreau Envelopes", NeurIPS 2020 (arXiv 2006.08848), algorithm 1.

Symbols
    w           global model (GM)
    w_i         client i's copy of it during a call
    θ_i         client i's personal model (PM)
    λ           strength of the envelope's pull
    R, K        local steps per call, inner steps per local step
    η, η_p      step size of w_i ("lr"), of θ_i ("personal_lr")
    β           how far the server follows the mean of the uploads

Per call: w_i ← w; R times { draw a batch; K times θ_i ← θ_i − η_p (∇f(θ_i; batch) + λ (θ_i − w_i));
w_i ← w_i − η λ (w_i − θ_i) }.  Then w ← (1 − β) w + β mean_i w_i, a uniform mean over the cohort.

Choices of ours, which the paper leaves open: θ_i starts a call at w and each further local step where the last one left
it; each local step draws its batch anew, without going through the data in passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.length import Length
from strata.engine.method.messages import (
    Assignment,
    ClientInfo,
    ClientResult,
    ClientStep,
    Context,
    Received,
    require_cohort,
)
from strata.engine.method.requests import Pull, Sgd, Train, Trained
from strata.engine.models.base import init_params
from strata.engine.options import Validated, option
from strata.engine.params import Params, uniform_mean


@dataclass(frozen=True)
class PFedMeConfig(Validated):
    """Settings of pFedMe."""

    lr: float = option(0.01, "η: step size of a client's copy of the global model", gt=0)
    personal_lr: float = option(0.01, "η_p: step size of a personal model", gt=0)
    lam: float = option(15.0, "λ: pull between a personal model and the client's copy", gt=0)
    beta: float = option(1.0, "β: how far the server follows the mean of the uploads", gt=0)
    local_steps: int = option(20, "R: local steps per call", ge=1)
    inner_steps: int = option(5, "K: inner steps per local step, on one batch", ge=1)
    batch_size: int = option(32, "samples per batch", ge=1)

    def validate(self, path: str) -> None:
        """Refuse step sizes under which one of the two pulls does not contract."""
        for key, step in (("lr", self.lr), ("personal_lr", self.personal_lr)):
            if not step * self.lam < 2:
                raise ConfigError(f"{path}{key}·{path}lam = {step * self.lam:g} makes models diverge: expected < 2.")


@dataclass(frozen=True)
class Global:
    """Global state: w."""

    w: Params


@dataclass(frozen=True)
class Personal:
    """Private state of a client: θ, None before its first call."""

    theta: Params | None = None


@dataclass(frozen=True)
class Down:
    """Server → client: w, and the number of local steps R."""

    w: Params
    steps: int


@dataclass(frozen=True)
class Up:
    """Client → server: w_i."""

    w: Params


class PFedMe(FlatAlgorithm[Global, Personal, Down, Up]):
    """pFedMe: personal models by Moreau envelopes around the global one."""

    Config = PFedMeConfig
    averages = True
    merges = "evenly"
    has_personal_model = True
    config: PFedMeConfig

    def init_global(self, seed: int) -> Global:
        """A freshly initialised w."""
        return Global(init_params(self.model, seed))

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No personal model before the first call."""
        return Personal()

    def default_assignment(self, info: ClientInfo) -> Assignment:
        """What a client does when no agent decides: R local steps."""
        return {"steps": self.config.local_steps}

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The global model w, and the number of local steps R."""
        return Down(g.w, int(assignment["steps"]))

    def client_step(self, info: ClientInfo, state: Personal, down: Down, context: Context) -> ClientStep[Personal, Up]:
        """R times: K inner steps of θ on one batch, then a step of w_i towards θ."""
        config = self.config
        w = theta = down.w
        for _ in range(down.steps):
            trained: Trained = yield Train(
                self.model,
                theta,
                Sgd(config.personal_lr),
                config.batch_size,
                Length(steps=config.inner_steps),
                repeat_batch=True,
                pull=(Pull(w, config.lam),),
            )
            theta = trained.params
            w = {name: w[name] - config.lr * config.lam * (w[name] - theta[name]) for name in w}
        return ClientResult(Up(w), Personal(theta))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """w ← (1 − β) w + β mean_i w_i."""
        require_cohort("pFedMe", ups)
        beta, mean = self.config.beta, uniform_mean([up.message.w for up in ups])
        return Global({name: (1 - beta) * g.w[name] + beta * mean[name] for name in mean})

    def personal_model(self, state: Personal) -> Params | None:
        """The personal model θ of the client."""
        return state.theta

    def global_model(self, g: Global) -> Params:
        """The global model w."""
        return g.w


METHOD = PFedMe
