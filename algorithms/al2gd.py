"""AL2GD: loopless descent on personal models that are pulled to those of their clusters, and these to one another.

Lyu, Hanzely and Kolar, "Personalized Federated Learning with Multiple Known Clusters" (arXiv 2204.13619). Clusters are
the run's teams. Objective: min over θ, w_j, w of
Σ_j { λ/2 ‖w_j − w‖² + Σ_{i∈j} [ f_i(θ_i) + γ/2 ‖θ_i − w_j‖² ] }, in which the best w_j and w are means of the θ_i.

Symbols
    θ_i         model of client i (PM)
    θ̄_j         mean model of cluster j (TM);  n_j: its clients
    θ̄           mean model of the network (GM), Σ_j α_j n_j θ̄_j / Σ_j α_j n_j
    λ, γ        pull between a cluster and the network, between a client and its cluster
    α_j         λ / (λ + n_j γ): how far the best w_j = α_j θ̄ + (1 − α_j) θ̄_j lies towards the network
    τ           share of the clients' pull to their clusters that is left to iterations of the network, 0..1
    η, L        step size ("lr"), minibatch steps of a local iteration
    p_0, p_j    chances of an iteration of the network; and of one of cluster j, where there is none of the network

Per iteration, which is a global round of one team round, coins say what happens:
    with p_0, everywhere    θ_i ← (1 − ηγ (α_j + τ (1 − α_j)) / p_0) θ_i + (ηγ / p_0) (α_j θ̄ + τ (1 − α_j) θ̄_j)
    else with p_j, in j     θ_i ← θ_i − c (θ_i − θ̄_j),  c = ηγ (1 − τ) (1 − α_j) / ((1 − p_0) p_j)
    else                    θ_i ← L steps of SGD on f_i at η / ((1 − p_0) (1 − p_j))
For L = 1 an iteration moves θ_i by −η times the gradient of the objective, in the mean over coins and batches.

A mix needs means of the θ_i as they are, so coins are known one iteration ahead: clients upload θ_i in the iteration
before a mix alone, and are sent a model for a mix alone. Between them nothing but a few numbers crosses the network.

Choices of ours: γ, λ, τ and p_j are the same for all clients and clusters, and all coins are drawn from the run's seed
by the global server. A client that is not called in an iteration keeps its θ_i and misses it: means are those of the
clients that were called when they were gathered, while n_j counts all that may be called. A client begins at its
cluster's mean as last gathered, or where its first iteration is a mix at what others are mixed with; a cluster begins
at the network's mean. Means are scored (TM, GM) as they were last gathered, before the last mix. Every mix gathers
anew, though the means of several in a row could be reckoned. No source states pulls and chances: the defaults are ours.
Deviations: none known beyond these. p_0 = p_j = 0 leaves every client alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from strata.engine.errors import ConfigError
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
from strata.engine.models.base import Buildable, init_params
from strata.engine.options import option
from strata.engine.params import Params, uniform_mean, weighted_mean
from strata.engine.seeding import uniform

Act = Literal["network", "cluster", "local"]
"""What happens in an iteration: a mix in the whole network, one in the cluster, or local steps."""


@dataclass(frozen=True)
class AL2GDConfig(LocalSgd):
    """Settings of AL2GD."""

    steps: int = option(20, "minibatch steps of a local iteration (L); 0: count in epochs", ge=0)
    lam: float = option(10.0, "λ: pull between a cluster's model and the network's", gt=0)
    gamma: float = option(1.0, "γ: pull between a client's model and its cluster's", gt=0)
    tau: float = option(0.0, "τ: share of the pull to clusters that is left to mixes of the network", ge=0, le=1)
    p_network: float = option(0.2, "p_0: chance that an iteration mixes the whole network", ge=0, lt=1)
    p_cluster: float = option(0.2, "p_j: chance that a cluster mixes, where the network does not", ge=0, lt=1)

    @property
    def local_lr(self) -> float:
        """The step size of a local iteration, η / ((1 − p_0) (1 − p_j))."""
        return self.lr / ((1 - self.p_network) * (1 - self.p_cluster))

    def alpha(self, size: int) -> float:
        """α_j of a cluster of so many clients."""
        return self.lam / (self.lam + size * self.gamma)

    def of_network(self, size: int) -> float:
        """The weight of θ̄ in what a mix of the network goes to, α_j / (α_j + τ (1 − α_j)); the rest is θ̄_j's."""
        alpha = self.alpha(size)
        return alpha / (alpha + self.tau * (1 - alpha))

    def share(self, act: Act, size: int) -> float:
        """How far a client of a cluster of so many goes in a mix, 1 being all the way to what it is mixed with."""
        alpha, step = self.alpha(size), self.lr * self.gamma
        if act == "network":
            return step * (alpha + self.tau * (1 - alpha)) / self.p_network
        if act == "cluster":
            return step * (1 - self.tau) * (1 - alpha) / ((1 - self.p_network) * self.p_cluster)
        return 0.0

    def require_contraction(self, size: int) -> None:
        """Refuse mixes that take the clients of a cluster of so many further beyond a mean than they were before it.

        Raises:
            ConfigError: naming the mix.
        """
        mixes: dict[Act, float] = {"network": self.p_network, "cluster": self.p_cluster}
        for act in (act for act, chance in mixes.items() if chance):
            if not (share := self.share(act, size)) < 2:
                raise ConfigError(
                    f"method.lr·method.gamma = {self.lr * self.gamma:g} makes models diverge: a mix of the {act} "
                    f"would take clients of a team of {size} {share:g} of the way to the mean, expected < 2. Lower "
                    f"one of the two, or raise method.p_{act}."
                )

    def act(self, seed: int, iteration: int, cluster: int) -> Act:
        """What the coins of an iteration say for a cluster."""
        if uniform(seed, "network", member=iteration) < self.p_network:
            return "network"
        return "cluster" if uniform(seed, "cluster", cluster, member=iteration) < self.p_cluster else "local"


@dataclass(frozen=True)
class Global:
    """Global state: θ̄ as last gathered, the coins' seed, the number of iterations made, and the teams that made one."""

    mean: Params
    seed: int
    iteration: int = 0
    met: tuple[int, ...] = ()


@dataclass(frozen=True)
class TeamDown:
    """Global server → team: what happens in an iteration.

    Attributes:
        mean: θ̄, for a mix of the network and for a team that begins; else None.
        act: what happens.
        share: how far clients go in a mix.
        of_network: the weight of θ̄ in what they are mixed with; the rest is θ̄_j's.
        gathers: whether clients upload their models.
        weight: α_j n_j where θ̄ is gathered as well; else 0.
    """

    mean: Params | None
    act: str
    share: float
    of_network: float
    gathers: bool
    weight: float


@dataclass(frozen=True)
class Team:
    """Team state: θ̄_j as last gathered, the clients that made an iteration, and what happens in this one.

    ``centre`` is what clients are mixed with, None in a local iteration; the rest is as in :class:`TeamDown`.
    """

    mean: Params
    met: tuple[int, ...] = ()
    centre: Params | None = None
    share: float = 0.0
    gathers: bool = False
    weight: float = 0.0


@dataclass(frozen=True)
class Personal:
    """Private state of a client: θ_i, None before its first call."""

    theta: Params | None = None


@dataclass(frozen=True)
class Down:
    """Team → client: what happens in an iteration.

    Attributes:
        centre: what it is mixed with, or begins at; None where it trains what it has.
        share: how far it goes in a mix.
        length: how long it trains; None in a mix.
        gathers: whether it is to upload its model.
    """

    centre: Params | None
    share: float
    length: Length | None
    gathers: bool


@dataclass(frozen=True)
class Up:
    """Client → team: θ_i."""

    theta: Params


@dataclass(frozen=True)
class TeamUp:
    """Team → global server: θ̄_j, and its weight α_j n_j in θ̄."""

    mean: Params
    weight: float


@dataclass(frozen=True)
class Done:
    """Client → team, or team → global server: nothing, as no mean is needed in the next iteration."""


class AL2GD(TieredAlgorithm[Global, Team, Personal, TeamDown, Down, Up | Done, TeamUp | Done]):
    """AL2GD: coins say whether clients train, or are mixed with their cluster's mean or with the network's."""

    Config = AL2GDConfig
    has_personal_model = True
    rounds_differ = True
    config: AL2GDConfig

    def __init__(self, config: AL2GDConfig, model: Buildable) -> None:
        """Keep the settings of a local iteration beside the others."""
        super().__init__(config, model)
        self.local = replace(config, lr=config.local_lr)

    def init_global(self, seed: int) -> Global:
        """A freshly initialised model for all."""
        return Global(init_params(self.model, seed), seed)

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No model before the first call."""
        return Personal()

    @property
    def team_rounds(self) -> int:
        """One team round per global round, which is an iteration."""
        return 1

    def to_team(self, g: Global, info: TeamInfo, assignment: Assignment, context: Context) -> TeamDown:
        """What the coins of this iteration and of the next one say for a cluster.

        Raises:
            ConfigError: where a mix would make its clients' models diverge.
        """
        config, size = self.config, len(info.members)
        config.require_contraction(size)
        act, then = (config.act(g.seed, g.iteration + ahead, info.id) for ahead in (0, 1))
        mixed = act == "network"
        return TeamDown(
            mean=g.mean if mixed or info.id not in g.met else None,
            act=act,
            share=config.share(act, size),
            of_network=config.of_network(size) if mixed else 0.0,
            gathers=then != "local",
            weight=config.alpha(size) * size if then == "network" else 0.0,
        )

    def start_team(self, down: TeamDown, previous: Team | None) -> Team:
        """What clients are mixed with, of θ̄ and θ̄_j; a cluster that begins has θ̄ as its own mean."""
        mean, met = (down.mean, ()) if previous is None else (previous.mean, previous.met)
        assert mean is not None
        centre = None if down.act == "local" else mean
        if down.act == "network" and down.mean is not None:
            centre = weighted_mean([down.mean, mean], [down.of_network, 1 - down.of_network])
        return Team(mean, met, centre, down.share, down.gathers, down.weight)

    def to_client(self, team: Team, info: ClientInfo, assignment: Assignment) -> Down:
        """What a client is mixed with; or how long it trains, and where it begins if this is its first call."""
        if team.centre is not None:
            return Down(team.centre, team.share, None, team.gathers)
        start = None if info.id in team.met else team.mean
        return Down(start, 0.0, Length.of(assignment), team.gathers)

    def client_step(
        self, info: ClientInfo, state: Personal, down: Down, context: Context
    ) -> ClientStep[Personal, Up | Done]:
        """θ_i ← θ_i − share (θ_i − centre) in a mix; else θ_i ← L local steps."""
        theta = down.centre if state.theta is None else state.theta
        assert theta is not None
        if down.length is not None:
            trained: Trained = yield self.local.train(self.model, theta, down.length)
            theta = trained.params
        elif down.centre is not None:
            centre = down.centre
            theta = {name: value - down.share * (value - centre[name]) for name, value in theta.items()}
        return ClientResult(Up(theta) if down.gathers else Done(), Personal(theta))

    def team_step(self, team: Team, ups: Sequence[Received[Up | Done]], context: Context) -> Team:
        """θ̄_j ← mean_i θ_i, if it was gathered."""
        require_cohort("AL2GD", ups)
        thetas = [up.message.theta for up in ups if isinstance(up.message, Up)]
        met = tuple(sorted({*team.met, *(up.sender for up in ups)}))
        return replace(team, mean=uniform_mean(thetas) if thetas else team.mean, met=met)

    def to_global(self, team: Team) -> TeamUp | Done:
        """The cluster's mean, if the network's is gathered."""
        return TeamUp(team.mean, team.weight) if team.weight else Done()

    def global_step(self, g: Global, ups: Sequence[Received[TeamUp | Done]], context: Context) -> Global:
        """θ̄ ← Σ_j α_j n_j θ̄_j / Σ_j α_j n_j, if it was gathered; and on to the next iteration."""
        require_cohort("AL2GD", ups)
        found = [up.message for up in ups if isinstance(up.message, TeamUp)]
        mean = weighted_mean([one.mean for one in found], [one.weight for one in found]) if found else g.mean
        met = tuple(sorted({*g.met, *(up.sender for up in ups)}))
        return Global(mean, g.seed, g.iteration + 1, met)

    def personal_model(self, state: Personal) -> Params | None:
        """The model θ_i of the client."""
        return state.theta

    def team_model(self, team: Team) -> Params:
        """The cluster's mean θ̄_j, as last gathered."""
        return team.mean

    def global_model(self, g: Global) -> Params:
        """The network's mean θ̄, as last gathered."""
        return g.mean


METHOD = AL2GD
