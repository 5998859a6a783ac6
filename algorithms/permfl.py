"""PerMFL: personalised multi-tier federated learning. Devices, teams and the global server each keep a model.

"Personalized Multi-tier Federated Learning" (arXiv 2407.14251). Objective: min over x, w, θ of
mean_m { γ/2 ‖w_m − x‖² + mean_{j∈m} [ f_mj(θ_mj) + λ/2 ‖θ_mj − w_m‖² ] }.

Symbols
    x           global model (GM)
    w_m         model of team m (TM)
    θ_mj        personal model of device j of team m (PM)
    λ_d, λ_t    pull between device and team, as the device and as the team applies it; the paper has one λ
    γ           pull between team and global model
    α, η, β     step sizes of device, team, global server
    K, L        team rounds per global round, minibatch steps per team round

Per global round: w_m ← x, then K team rounds of
    θ ← w_m; L times  θ ← θ − α ∇f(θ; batch) − α λ_d (θ − w_m)
    w_m ← (1 − ηλ_t − ηγ) w_m + ηγ x + ηλ_t θ̄_m          (θ̄_m: uniform mean of the team's participating devices)
and then
    x ← (1 − βγ) x + βγ w̄                                (w̄: uniform mean of the participating teams)

Choices of ours, which no source states: λ_d and λ_t can differ (the released code gives its devices another λ than it
means to); ``upload_fraction`` < 1 sends only the largest changes of w_m to the global server, beside the K team rounds
that already make that link sparse in time. The batch size is the released code's default. An agent can set λ, γ and β
anew for every global round (:mod:`strata.algorithms.controls.pulls`); λ and γ then travel with the models, 8 bytes
each.

Otherwise than the released code, which averages the models of all teams, those that were not invited as they were left
in an earlier round (stale), w̄ is the mean of the teams that take part, as the paper has it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from strata.algorithms.controls.pulls import BETA, GAMMA, LAM, LAM_TEAM, PullsControl
from strata.engine.errors import ConfigError, StrataWarning
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.length import Length
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
from strata.engine.method.requests import Pull, Sgd, Train, Trained
from strata.engine.models.base import init_params
from strata.engine.options import Validated, option
from strata.engine.params import Params, flatten, unflatten, uniform_mean


@dataclass(frozen=True)
class PerMFLConfig(Validated):
    """Settings of PerMFL; the defaults are the paper's published ones."""

    lambda_device: float = option(0.5, "λ_d: how strongly a device's model is pulled to its team's", ge=0)
    lambda_team: float | None = option(
        None, "λ_t: how strongly a team's model is pulled to its devices'; null: λ_d", ge=0
    )
    gamma: float = option(1.5, "γ: pull between team and global model", gt=0)
    alpha: float = option(0.01, "α: step size of a device", gt=0)
    eta: float = option(0.03, "η: step size of a team", gt=0)
    beta: float = option(0.6, "β: step size of the global server", gt=0)
    team_rounds: int = option(10, "K: team rounds per global round", ge=1)
    local_steps: int = option(20, "L: minibatch steps of a device per team round", ge=1)
    batch_size: int = option(124, "samples per minibatch step", ge=1)
    upload_fraction: float = option(
        1.0, "share of w_m's largest changes that a team sends up; 1: all of it", gt=0, le=1
    )

    @property
    def lambda_t(self) -> float:
        """λ_t, the pull of a team's model to its devices', which is λ_d unless it is given."""
        return self.lambda_device if self.lambda_team is None else self.lambda_team

    @property
    def reach(self) -> float:
        """The bound of βγ (1 − r) in :meth:`validate`: below 2 the global model converges whatever devices do."""
        q = 1 - self.eta * (self.gamma + self.lambda_t)
        apart = 1 - q**self.team_rounds if q >= 0 else 1 + abs(q) ** self.team_rounds
        return self.beta * self.gamma * apart * self.lambda_t / (self.gamma + self.lambda_t)

    def validate(self, path: str) -> None:
        """Refuse steps under which models diverge; warn where the global model may, or the theorems do not hold.

        Teams restart from x, so the global step is a contraction beyond βγ < 2. Let all devices want the same u, and
        let a device that starts at w come the share s ≤ 1 of the way to it: θ = w − s (w − u). Then K team rounds from
        x leave w_m − u = r (x − u), with q = 1 − ηγ − sηλ_t and 1 − r = (1 − q^K) sλ_t / (γ + sλ_t), and the global
        step multiplies x − u by 1 − βγ (1 − r): it contracts while βγ (1 − r) < 2. For q ≥ 0 that grows with s, so
        s = 1 bounds it; else 1 + |q|^K does. A strong pull of the devices (λ_d) keeps s small: the released code's
        defaults converge above the bound.
        """
        team = self.eta * (self.lambda_t + self.gamma)
        if not 0 < team < 2:
            raise ConfigError(
                f"{path}eta·({path}lambda_team + {path}gamma) = {team:g} makes team models diverge: expected < 2."
            )
        device = self.alpha * self.lambda_device
        if not device < 2:
            raise ConfigError(
                f"{path}alpha·{path}lambda_device = {device:g} makes device models diverge: expected < 2."
            )
        if not self.beta * self.gamma < 2:
            reach = self.reach
            warnings.warn(
                f"{path}beta·{path}gamma = {self.beta * self.gamma:g} is not below 2. The global model converges while "
                f"2 is above {reach:.3g}, the most that this comes to after team rounds, "
                + (
                    "as it is." if reach < 2 else "or else where devices stay near their teams (a large lambda_device)."
                ),
                StrataWarning,
                stacklevel=2,
            )
        largest = max(self.lambda_device, self.lambda_t)
        if not self.gamma > 2 * largest:
            warnings.warn(
                f"{path}gamma={self.gamma:g} is not above 2λ = {2 * largest:g}: PerMFL's theorems do not hold here.",
                StrataWarning,
                stacklevel=2,
            )


@dataclass(frozen=True)
class Pulls:
    """λ and γ of one global round, as an agent set them.

    ``lam_team`` is λ_t where it is not λ_d; ``beta`` is the global server's own, None for the configured one.
    """

    lam: float
    gamma: float
    lam_team: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class Global:
    """Global state: x, and the pulls of the round to come, None for the configured ones."""

    x: Params
    pulls: Pulls | None = None


@dataclass(frozen=True)
class TeamDown:
    """Global server → team: x, and the pulls if an agent set them."""

    x: Params
    pulls: Pulls | None = None


@dataclass(frozen=True)
class Team:
    """Team state: w_m, the x it started from, and the pulls it was told."""

    w: Params
    x: Params
    pulls: Pulls | None = None


@dataclass(frozen=True)
class Personal:
    """Private state of a device: its personal model θ, None before its first call."""

    theta: Params | None = None


@dataclass(frozen=True)
class Down:
    """Team → device: w_m, the number of steps L, and λ_d if an agent set it."""

    w: Params
    steps: int
    lam: float | None = None


@dataclass(frozen=True)
class Up:
    """Device → team: θ."""

    theta: Params


@dataclass(frozen=True)
class Sparse:
    """The largest changes of a model: positions ``(k,)`` int32 in the flattened model, and their values ``(k,)``."""

    positions: Tensor
    values: Tensor


@dataclass(frozen=True)
class TeamUp:
    """Team → global server: w_m, or its largest changes against x."""

    w: Params | Sparse


class PerMFL(TieredAlgorithm[Global, Team, Personal, TeamDown, Down, Up, TeamUp]):
    """PerMFL: personal models on devices, pulled to their team's model, which is pulled to the global one."""

    Config = PerMFLConfig
    Control = PullsControl
    has_personal_model = True
    merges = "evenly"
    config: PerMFLConfig

    def init_global(self, seed: int) -> Global:
        """A freshly initialised x."""
        return Global(init_params(self.model, seed))

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No personal model before the first call."""
        return Personal()

    @property
    def team_rounds(self) -> int:
        """The team rounds K per global round."""
        return self.config.team_rounds

    def steer(self, g: Global, assignment: Assignment) -> Global:
        """Take ``lam`` and ``gamma`` (``lam_team``, else λ_t = λ_d; and ``beta``, if given) for the round to come."""
        lam_team, beta = (float(assignment[name]) if name in assignment else None for name in (LAM_TEAM, BETA))
        return Global(g.x, Pulls(float(assignment[LAM]), float(assignment[GAMMA]), lam_team, beta))

    def to_team(self, g: Global, info: TeamInfo, assignment: Assignment, context: Context) -> TeamDown:
        """The global model x for a team, and the pulls if an agent set them."""
        return TeamDown(g.x, g.pulls and replace(g.pulls, beta=None))

    def start_team(self, down: TeamDown, previous: Team | None) -> Team:
        """w_m ← x."""
        return Team(down.x, down.x, down.pulls)

    def default_assignment(self, info: ClientInfo) -> Assignment:
        """What a device does when no agent decides: L steps."""
        return {"steps": self.config.local_steps}

    def to_client(self, team: Team, info: ClientInfo, assignment: Assignment) -> Down:
        """The team's model w_m for a device, the number of steps, and λ_d if an agent set it."""
        return Down(team.w, int(assignment["steps"]), None if team.pulls is None else team.pulls.lam)

    def client_step(self, info: ClientInfo, state: Personal, down: Down, context: Context) -> ClientStep[Personal, Up]:
        """L times θ ← θ − α ∇f(θ; batch) − α λ_d (θ − w_m), from θ = w_m."""
        config = self.config
        lam = config.lambda_device if down.lam is None else down.lam
        trained: Trained = yield Train(
            self.model,
            down.w,
            Sgd(config.alpha),
            config.batch_size,
            Length(steps=down.steps),
            pull=(Pull(down.w, lam),) if lam else (),
        )
        return ClientResult(Up(trained.params), Personal(trained.params))

    def team_step(self, team: Team, ups: Sequence[Received[Up]], context: Context) -> Team:
        """w_m ← (1 − ηλ_t − ηγ) w_m + ηγ x + ηλ_t θ̄."""
        require_cohort("PerMFL", ups)
        lam, gamma = self._team_pulls(team.pulls)
        eta_lambda, eta_gamma = self.config.eta * lam, self.config.eta * gamma
        theta = uniform_mean([up.message.theta for up in ups])
        keep = 1 - eta_lambda - eta_gamma
        w = {name: keep * team.w[name] + eta_gamma * team.x[name] + eta_lambda * theta[name] for name in team.w}
        return Team(w, team.x, team.pulls)

    def to_global(self, team: Team) -> TeamUp:
        """The team's model w_m for the server, or the largest of its changes."""
        if self.config.upload_fraction == 1:
            return TeamUp(team.w)
        change = flatten(team.w) - flatten(team.x)
        count = max(1, round(self.config.upload_fraction * change.numel()))
        positions = change.abs().topk(count).indices.sort().values
        return TeamUp(Sparse(positions.to(torch.int32), change[positions]))

    def global_step(self, g: Global, ups: Sequence[Received[TeamUp]], context: Context) -> Global:
        """x ← (1 − βγ) x + βγ w̄. What an agent decided holds for one round."""
        require_cohort("PerMFL", ups)
        _, gamma = self._team_pulls(g.pulls)
        told = None if g.pulls is None else g.pulls.beta
        step = (self.config.beta if told is None else told) * gamma
        w = uniform_mean([_dense(up.message.w, g.x) for up in ups])
        return Global({name: (1 - step) * g.x[name] + step * w[name] for name in g.x})

    def _team_pulls(self, pulls: Pulls | None) -> tuple[float, float]:
        """λ_t and γ."""
        if pulls is None:
            return self.config.lambda_t, self.config.gamma
        return pulls.lam if pulls.lam_team is None else pulls.lam_team, pulls.gamma

    def personal_model(self, state: Personal) -> Params | None:
        """The personal model θ of the device."""
        return state.theta

    def team_model(self, team: Team) -> Params:
        """The team's model w_m."""
        return team.w

    def global_model(self, g: Global) -> Params:
        """The global model x."""
        return g.x


def _dense(w: Params | Sparse, x: Params) -> Params:
    if not isinstance(w, Sparse):
        return w
    vector = flatten(x)
    vector[w.positions.long()] += w.values
    return unflatten(vector, x)


METHOD = PerMFL
