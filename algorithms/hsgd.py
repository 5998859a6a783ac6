"""h-SGD: hierarchical local SGD. Teams average their clients K times, then the teams are averaged.

Wang et al., "Demystifying Why Local Aggregation Helps: Convergence Analysis of Hierarchical SGD", AAAI 2022
(arXiv 2010.12998).

Symbols
    x       global model
    w_m     team m's model
    θ_mj    model of client j of team m
    K, L    team rounds per global round, local steps per team round

Per global round: w_m ← x; K times { θ_mj ← L local steps from w_m;  w_m ← mean_j θ_mj };  x ← mean_m w_m.
Both means are uniform.

Deviations: none. ``epochs`` counts local work in passes over the data instead of in steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd
from strata.engine.method.messages import (
    Assignment,
    ClientInfo,
    ClientResult,
    ClientStep,
    Context,
    Received,
    TeamInfo,
    require_cohort,
)
from strata.engine.method.requests import Trained
from strata.engine.models.base import init_params
from strata.engine.options import option
from strata.engine.params import Params, uniform_mean


@dataclass(frozen=True)
class HsgdConfig(LocalSgd):
    """Settings of h-SGD."""

    steps: int = option(20, "minibatch steps per team round (L); 0: count in epochs", ge=0)
    team_rounds: int = option(10, "team rounds per global round (K)", ge=1)


@dataclass(frozen=True)
class Model:
    """A model on its way, or as a server's state."""

    params: Params


@dataclass(frozen=True)
class Down:
    """Team server → client: the team's model, and how long to train it."""

    params: Params
    length: Length


class Hsgd(TieredAlgorithm[Model, Model, None, Model, Down, Model, Model]):
    """h-SGD: teams average their clients' models in every team round, the server the teams' models."""

    Config = HsgdConfig
    merges = "evenly"
    stateless = True
    config: HsgdConfig

    def init_global(self, seed: int) -> Model:
        """A freshly initialised x."""
        return Model(init_params(self.model, seed))

    @property
    def team_rounds(self) -> int:
        """The team rounds K per global round."""
        return self.config.team_rounds

    def to_team(self, g: Model, info: TeamInfo, assignment: Assignment, context: Context) -> Model:
        """The global model x for a team."""
        return g

    def start_team(self, down: Model, previous: Model | None) -> Model:
        """w_m ← x."""
        return down

    def to_client(self, team: Model, info: ClientInfo, assignment: Assignment) -> Down:
        """The team's model w_m, and how long to train it."""
        return Down(team.params, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: None, down: Down, context: Context) -> ClientStep[None, Model]:
        """θ ← L local steps from w_m."""
        trained: Trained = yield self.config.train(self.model, down.params, down.length)
        return ClientResult(Model(trained.params), None)

    def team_step(self, team: Model, ups: Sequence[Received[Model]], context: Context) -> Model:
        """w_m ← mean_j θ_mj."""
        require_cohort("h-SGD", ups)
        return Model(uniform_mean([up.message.params for up in ups]))

    def to_global(self, team: Model) -> Model:
        """The team's model w_m for the server."""
        return team

    def global_step(self, g: Model, ups: Sequence[Received[Model]], context: Context) -> Model:
        """x ← mean_m w_m."""
        require_cohort("h-SGD", ups)
        return Model(uniform_mean([up.message.params for up in ups]))

    def team_model(self, team: Model) -> Params:
        """The team's model w_m."""
        return team.params

    def global_model(self, g: Model) -> Params:
        """The global model x."""
        return g.params


METHOD = Hsgd
