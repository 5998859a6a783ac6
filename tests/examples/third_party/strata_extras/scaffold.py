"""SCAFFOLD with option I: a client's control variate is its gradient where the round begins.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020 (arXiv 1910.06378).

y ← x, then y ← y − η (g(y) − c_i + c);  c_i⁺ ← ∇f_i(x);  x ← mean_S y;  c ← c + |S|/N mean_S (c_i⁺ − c_i).

Deviations: the step size of the server is 1.
"""

from dataclasses import dataclass, replace

import torch

from strata.engine import (
    ClientResult,
    FlatAlgorithm,
    Gradient,
    LocalSgd,
    Params,
    init_params,
    require_cohort,
    uniform_mean,
)


@dataclass(frozen=True)
class ScaffoldConfig(LocalSgd):
    """Nothing but how clients train."""


@dataclass(frozen=True)
class Global:
    """What the server keeps, and sends."""

    x: Params
    c: Params


@dataclass(frozen=True)
class Private:
    c: Params


@dataclass(frozen=True)
class Up:
    x: Params
    dc: Params


def zeros(like):
    return {name: torch.zeros_like(value) for name, value in like.items()}


class Scaffold(FlatAlgorithm):
    Config = ScaffoldConfig

    def init_global(self, seed):
        x = init_params(self.model, seed)
        return Global(x, zeros(x))

    def init_client(self, info, seed):
        return Private(zeros(init_params(self.model, seed)))

    def to_client(self, g, info, assignment):
        return g

    def client_step(self, info, state, down, context):
        found = yield Gradient(self.model, down.x)
        correction = {name: down.c[name] - value for name, value in state.c.items()}
        request = self.config.train(self.model, down.x, self.config.length)
        trained = yield replace(request, correction=correction)
        c = state.c | found.gradient  # what is no parameter has no gradient, and stays 0
        dc = {name: value - state.c[name] for name, value in c.items()}
        return ClientResult(Up(trained.params, dc), Private(c))

    def global_step(self, g, ups, context):
        require_cohort("SCAFFOLD", ups)
        change, share = uniform_mean([up.message.dc for up in ups]), len(ups) / self.population
        c = {name: value + share * change[name] for name, value in g.c.items()}
        return Global(uniform_mean([up.message.x for up in ups]), c)

    def global_model(self, g):
        return g.x
