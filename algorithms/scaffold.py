"""SCAFFOLD: one model, averaged, whose clients correct their steps for how their data differ from everybody's.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020 (arXiv 1910.06378),
algorithm 1, with option II for the clients' control variates.

Symbols
    x       global model
    c       the server's control variate, an estimate of the mean gradient over all clients
    c_i     client i's control variate, an estimate of its own gradient
    y_i     client i's model after its local steps
    η_l     step size of local SGD (``lr``), K its steps
    η_g     step size of the server (``global_lr``)
    S, N    the cohort, all clients

Per round: y_i ← x, then K times y_i ← y_i − η_l (g_i(y_i) − c_i + c);
           c_i⁺ ← c_i − c + (x − y_i) / (K η_l);
           x ← x + η_g / |S| Σ_S (y_i − x);  c ← c + 1/N Σ_S (c_i⁺ − c_i).

Deviations: c and c_i begin at 0, as the paper's experiments have it. What is no parameter (batch norm's statistics) is
averaged and not corrected. ``epochs`` counts local work in passes over the data instead of steps, as for the other
methods; ``momentum`` and ``weight_decay``, which the paper does not have, are 0 unless they are set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

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
from strata.engine.method.requests import Trained
from strata.engine.models.base import Buildable, init_params
from strata.engine.options import option
from strata.engine.params import Params, uniform_mean


@dataclass(frozen=True)
class ScaffoldConfig(LocalSgd):
    """Settings of SCAFFOLD."""

    global_lr: float = option(1.0, "step size of the server (η_g)", gt=0)


@dataclass(frozen=True)
class Global:
    """Global state: the model x, and the control variate c of its parameters."""

    x: Params
    c: Params


@dataclass(frozen=True)
class Private:
    """Private state of a client: its control variate c_i."""

    c: Params


@dataclass(frozen=True)
class Down:
    """Server → client: the model, the control variate, and how long to train."""

    x: Params
    c: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: the trained model y_i, under the name of what it began from; and c_i⁺ − c_i."""

    x: Params
    dc: Params


class Scaffold(FlatAlgorithm[Global, Private, Down, Up]):
    """SCAFFOLD: clients' steps are corrected by control variates, the server averages what they return."""

    Config = ScaffoldConfig
    averages = True
    merges = "evenly"
    config: ScaffoldConfig

    def __init__(self, config: Any, model: Buildable) -> None:
        """Find out what of the model is a parameter."""
        super().__init__(config, model)
        self.parameters = [name for name, _ in model.build().named_parameters()]

    def _zeros(self, like: Params) -> Params:
        return {name: torch.zeros_like(like[name]) for name in self.parameters}

    def init_global(self, seed: int) -> Global:
        """A freshly initialised model, and c = 0."""
        x = init_params(self.model, seed)
        return Global(x, self._zeros(x))

    def init_client(self, info: ClientInfo, seed: int) -> Private:
        """c_i = 0."""
        return Private(self._zeros(init_params(self.model, 0)))

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The model, the control variate, and how long to train."""
        return Down(g.x, g.c, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Private, down: Down, context: Context) -> ClientStep[Private, Up]:
        """y_i ← corrected SGD from x;  c_i⁺ ← c_i − c + (x − y_i) / (K η_l)."""
        difference = {name: down.c[name] - state.c[name] for name in self.parameters}
        request = replace(self.config.train(self.model, down.x, down.length), correction=difference)
        trained: Trained = yield request
        scale = 1 / (trained.steps * self.config.lr)
        change = {n: torch.sub(down.x[n], trained.params[n]).mul_(scale).sub_(down.c[n]) for n in self.parameters}
        after = {name: state.c[name] + change[name] for name in self.parameters}
        return ClientResult(Up(trained.params, change), Private(after))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """x ← x + η_g / |S| Σ (y_i − x);  c ← c + 1/N Σ (c_i⁺ − c_i)."""
        require_cohort("SCAFFOLD", ups)
        mean = uniform_mean([up.message.x for up in ups])
        x = {name: torch.lerp(value, mean[name], self.config.global_lr) for name, value in g.x.items()}
        change = uniform_mean([up.message.dc for up in ups])
        share = sum(up.uploads for up in ups) / self.population
        return Global(x, {name: torch.add(value, change[name], alpha=share) for name, value in g.c.items()})

    def global_model(self, g: Global) -> Params:
        """The global model x."""
        return g.x


METHOD = Scaffold
