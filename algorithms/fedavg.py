"""FedAvg: one model, averaged.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017
(arXiv 1602.05629), algorithm 1.

Symbols
    w       global model
    w_k     client k's model after its local epochs
    n_k     client k's training samples
    E, B    local epochs, batch size

Per round: w_k ← E epochs of SGD from w on client k's data;  w ← Σ_k (n_k / n) w_k over the cohort.

With ``server`` the mean is not taken but stepped towards, by an optimiser of the server's: FedAvgM, FedAdagrad, FedAdam
and FedYogi are FedAvg with ``server`` momentum, adagrad, adam and yogi (:mod:`strata.algorithms.shared.server_steps`).

Deviations: none. ``steps`` counts local work in minibatch steps instead, to compare methods at equal work. Agents can
choose who takes part and for how long (:mod:`strata.algorithms.controls.selection`); for them clients that were never
measured train w for an epoch first, of which only the time counts. Without agents there is neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from strata.algorithms.controls.selection import SelectionControl
from strata.algorithms.shared.server_steps import Averaged, AveragingConfig
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
from strata.engine.method.requests import Pull, Train, Trained
from strata.engine.models.base import init_params
from strata.engine.params import Params, weighted_mean


@dataclass(frozen=True)
class FedAvgConfig(AveragingConfig):
    """Settings of FedAvg."""


@dataclass(frozen=True)
class Global:
    """Global state: the model w, and what the server's optimiser keeps beside it, which is nothing for the mean."""

    w: Params
    m: Params = field(default_factory=dict)
    v: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Down:
    """Server → client: the model, and how long to train it."""

    w: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: the trained model w_k."""

    w: Params


class FedAvg(FlatAlgorithm[Global, None, Down, Up]):
    """FedAvg: clients train the global model, the server averages what they return."""

    Config = FedAvgConfig
    averages = True
    merges = "samples"
    stateless = True
    Control = SelectionControl
    config: FedAvgConfig

    def init_global(self, seed: int) -> Global:
        """A freshly initialised model."""
        begun = self.config.begun(self.model, init_params(self.model, seed))
        return Global(begun.w, begun.m, begun.v)

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The global model, and how long to train it."""
        return Down(g.w, Length.of(assignment))

    def probe(self, g: Global) -> Down:
        """The global model, to be trained for an epoch."""
        return Down(g.w, Length(epochs=1))

    def probe_step(self, info: ClientInfo, down: Down, context: Context) -> ClientStep[None, None]:
        """Train the model for one epoch, and upload nothing."""
        yield self._train(down)
        return ClientResult(None, None)

    def client_step(self, info: ClientInfo, state: None, down: Down, context: Context) -> ClientStep[None, Up]:
        """w_k ← local SGD from w."""
        trained: Trained = yield self._train(down)
        return ClientResult(Up(trained.params), None)

    def _train(self, down: Down) -> Train:
        return self.config.train(self.model, down.w, down.length, self.pull(down))

    def pull(self, down: Down) -> tuple[Pull, ...]:
        """No proximal term; FedProx has one."""
        return ()

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """w ← Σ_k (n_k / n) w_k, or a step of the server's optimiser towards it."""
        require_cohort("FedAvg", ups)
        mean = weighted_mean([up.message.w for up in ups], [up.samples for up in ups])
        after = self.config.stepped(Averaged(g.w, g.m, g.v), mean)
        return Global(after.w, after.m, after.v)

    def global_model(self, g: Global) -> Params:
        """The global model w."""
        return g.w


METHOD = FedAvg
