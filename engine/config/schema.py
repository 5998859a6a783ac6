"""The schema of a run's configuration, and where its method is found.

Each part is the configuration of one component, which receives nothing else. The files and overrides that fill it are
read by :mod:`strata.engine.config.load`.
"""

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from strata.engine.clock.config import DelayConfig
from strata.engine.config.agents import AgentsConfig
from strata.engine.config.ending import StopConfig
from strata.engine.config.gathering import Gathering
from strata.engine.config.tracking import TrackingConfig
from strata.engine.data.config import DataConfig, FormationConfig, PartitionConfig
from strata.engine.errors import ConfigError
from strata.engine.evaluation.config import EvaluationConfig, check_count
from strata.engine.method.algorithm import Algorithm, TieredAlgorithm
from strata.engine.method.find import load_method
from strata.engine.method.local import LocalSgd
from strata.engine.models.config import ModelConfig
from strata.engine.options import Validated, check, option
from strata.engine.suggest import closest
from strata.engine.transport.config import AttacksConfig, RobustConfig, TransportConfig


@dataclass(frozen=True)
class ResourceConfig:
    """A part of ``clients.classes``: what the actors of one device class's clients are given."""

    num_cpus: float = option(1.0, "CPUs of each actor", gt=0)
    num_gpus: float = option(0.0, "GPUs of each actor; fractions share a GPU and its memory", ge=0)


def _check_gpus(path: str, gpus: float) -> None:
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"{path}num_gpus={gpus:g} is out of range: expected a fraction ≤ 1, or a whole number.")


@dataclass(frozen=True)
class ClientsConfig(Gathering):
    """The group ``clients``: how many there are, who is invited and waited for, and what their actors are given."""

    count: int = option(40, "number of clients", ge=1)
    participation: float = option(1.0, "share of a server's clients invited per (team) round, at least one", gt=0, le=1)
    num_cpus: float = option(1.0, "CPUs of each client actor", gt=0)
    num_gpus: float = option(0.0, "GPUs of each client actor; a fraction caps its share of the memory too", ge=0)
    classes: dict[str, ResourceConfig] = option(
        {}, "resources by device class, e.g. clients.classes.laptop.num_cpus=2; other classes use the two above"
    )

    def validate(self, path: str) -> None:
        """Refuse a tier that cannot work; ``path`` prefixes the keys in errors.

        Raises:
            ConfigError: for mode=deadline without a deadline, a buffer that never fills, more than one GPU but no whole
                number, or the like in a class.
        """
        super().validate(path)
        _check_gpus(path, self.num_gpus)
        for name, resources in self.classes.items():
            check(resources, f"{path}classes.{name}.")
            _check_gpus(f"{path}classes.{name}.", resources.num_gpus)


@dataclass(frozen=True)
class TeamsConfig(Gathering):
    """The group ``teams``: how many there are, who is invited and waited for; flat methods ignore it."""

    count: int = option(4, "number of teams", ge=1)
    participation: float = option(1.0, "share of the teams invited per global round, at least one", gt=0, le=1)
    num_cpus: float = option(0.0, "CPUs of each team server's actor; they mostly wait", ge=0)
    num_gpus: float = option(0.0, "GPUs of each team server's actor", ge=0)
    placement: Literal["auto", "own"] = option(
        "auto",
        "auto: a team server lives in the actor that holds all of its clients, if there is one and it asks for no CPU "
        "or GPU; own: each has an actor of its own",
    )
    formation: FormationConfig = option(FormationConfig(), "how clients form teams")

    def validate(self, path: str) -> None:
        """Refuse a tier that cannot work; ``path`` prefixes the keys in errors.

        Raises:
            ConfigError: for mode=deadline without a deadline, a buffer that never fills, or more than one GPU but no
                whole number.
        """
        super().validate(path)
        _check_gpus(path, self.num_gpus)


@dataclass(frozen=True)
class ServerConfig(Validated):
    """The group ``server``: CPUs and GPUs of the global server's actor."""

    num_cpus: float = option(0.0, "CPUs of the global server's actor; it mostly waits", ge=0)
    num_gpus: float = option(0.0, "GPUs of the global server's actor", ge=0)

    def validate(self, path: str) -> None:
        """Refuse GPUs that no actor can be given; ``path`` prefixes the keys in errors.

        Raises:
            ConfigError: for more than one GPU but no whole number.
        """
        _check_gpus(path, self.num_gpus)


@dataclass(frozen=True)
class RayConfig(Validated):
    """The group ``ray``: the Ray on which the actors run, and how they are laid out on its nodes."""

    address: str = option(
        "", "empty: a local Ray, started and shut down with the run; auto or HOST:PORT: join a cluster"
    )
    num_cpus: int = option(0, "local Ray: CPUs it may use; 0: all", ge=0)
    num_gpus: int = option(0, "local Ray: GPUs it may use, logical ones where there is no CUDA; 0: those found", ge=0)
    placement: Literal["pack", "spread"] = option("pack", "fill a node before the next, or spread over the nodes")
    nodes: int = option(0, "join a cluster: wait until it has so many nodes; 0: take those that are there", ge=0)
    start_timeout_s: float = option(60.0, "wall seconds for which nodes, and then actors, are waited for", gt=0)

    def validate(self, path: str) -> None:
        """Refuse to wait for nodes of a local Ray, which has one; ``path`` prefixes the keys in errors.

        Raises:
            ConfigError: for several nodes without an address.
        """
        if self.nodes > 1 and not self.address:
            raise ConfigError(
                f"{path}nodes={self.nodes}: a local Ray has one node. Name the cluster, e.g. {path}address=auto, or "
                f"leave {path}nodes out."
            )


@dataclass(frozen=True)
class TrainingConfig(Validated):
    """The group ``training``: where clients train, whatever the method."""

    device: Literal["auto", "cpu", "cuda"] = option("auto", "auto: CUDA where the actor has a share of a GPU")
    batch_clients: Any = option(
        "auto", "clients trained as one operation at most, 1: one by one; auto: 128 for small dense models, 256 on GPUs"
    )
    linear: Literal["primal", "dual"] = option("primal", "linear models by their weights, or by clients' own samples")

    def validate(self, path: str) -> None:
        """A number of clients is a whole one."""
        check_count(f"{path}batch_clients", self.batch_clients, "auto")


@dataclass(frozen=True)
class CheckpointConfig:
    """The group ``checkpoint``: after which rounds the run is saved, and how many checkpoints are kept."""

    every: int = option(10, "save every so many global rounds, and after the last; 0: never by rounds", ge=0)
    every_s: float = option(
        0.0, "also at the first end of a round after each multiple of so many virtual seconds; 0: never", ge=0
    )
    keep: int = option(2, "checkpoints kept, the newest ones", ge=1)


@dataclass(frozen=True)
class StateConfig:
    """The group ``state``: where private states of clients are kept between their calls."""

    cache_mib: float = option(1024.0, "MiB of them that each process keeps in memory; the others lie on its disk", gt=0)


@dataclass(frozen=True)
class FaultsConfig:
    """The group ``faults``: how often a run goes on after a process or a node was lost."""

    retries: int = option(3, "on_failure=retry: times that one and the same round is tried again", ge=0)


@dataclass(frozen=True)
class RunConfig(Validated):
    """The configuration of a whole run: what concerns all of it, and one group for each component."""

    algorithm: str = option("permfl", "the method: a module of algorithms/, or the dotted path of your own")
    rounds: int = option(50, "global rounds (T)", ge=1)
    seed: int = option(0, "all randomness derives from it", ge=0, le=2**63 - 1)
    seeds: list[int] = option([], "several seeds: one run each, then mean ± std; empty: just seed", ge=0, le=2**63 - 1)
    runtime: Literal["ray", "inprocess"] = option("ray", "ray: actors; inprocess: this process, without Ray")
    clients_per_actor: Any = option("auto", "auto: one actor per client while they fit, packed beyond; or a number")
    output: str = option("runs", "folder in which each run makes its own")
    on_failure: Literal["retry", "stop"] = option(
        "retry", "a lost process or node: retry from the last checkpoint on what is alive, or stop, to be resumed"
    )
    method: Any = field(default=None, metadata={"help": "the method's own settings"})
    data: DataConfig = option(DataConfig(), "the data set")
    partition: PartitionConfig = option(PartitionConfig(), "how samples are dealt to clients")
    model: ModelConfig = option(ModelConfig(), "the architecture")
    clients: ClientsConfig = option(ClientsConfig(), "the client tier")
    teams: TeamsConfig = option(TeamsConfig(), "the team tier")
    server: ServerConfig = option(ServerConfig(), "the global server")
    transport: TransportConfig = option(TransportConfig(), "what becomes of messages between clients and their servers")
    robust: RobustConfig = option(RobustConfig(), "means that bear hostile uploads")
    attacks: AttacksConfig = option(AttacksConfig(), "clients that want to harm")
    delays: DelayConfig = option(DelayConfig(), "speeds, networks and the virtual clock")
    agents: AgentsConfig = option(AgentsConfig(), "who makes the method's decisions, and how it learns")
    ray: RayConfig = option(RayConfig(), "Ray")
    training: TrainingConfig = option(TrainingConfig(), "local training")
    evaluation: EvaluationConfig = option(EvaluationConfig(), "evaluation")
    checkpoint: CheckpointConfig = option(CheckpointConfig(), "checkpoints")
    state: StateConfig = option(StateConfig(), "private states of clients")
    stop: StopConfig = option(StopConfig(), "what ends a run before its last round")
    faults: FaultsConfig = option(FaultsConfig(), "lost processes and nodes")
    tracking: TrackingConfig = option(TrackingConfig(), "Weights & Biases")

    def validate(self, path: str) -> None:
        """Refuse what single groups cannot see, such as a family of models, or a policy, that the method does not take.

        Raises:
            ConfigError: naming the key, its value and what was expected.
        """
        check_count(f"{path}clients_per_actor", self.clients_per_actor, "auto")
        _check_output(self.output, path)
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds={self.seeds}: every seed may be given once.")
        if self.model.is_family and not self.method_class.takes_families:
            key = "model.family" if self.model.family else f"model.name={self.model.name}"
            raise ConfigError(
                f"{key}: {self.algorithm} gives every client the same architecture, expected one. Name it as "
                "model.name, without model.family."
            )
        _check_agents(self.agents, self.algorithm)
        tiered = issubclass(load_method(self.algorithm), TieredAlgorithm)
        _check_async(self, path, tiered)
        _check_evaluation(self, path)
        _check_secure(self, path, tiered)
        if tiered and self.teams.count > self.clients.count:
            raise ConfigError(
                f"teams.count={self.teams.count} is out of range: with clients.count={self.clients.count}, expected "
                f"≥ 1 and ≤ {self.clients.count}."
            )

    @property
    def method_class(self) -> type[Algorithm[Any, Any, Any, Any]]:
        """The class of the method that ``algorithm`` names.

        Raises:
            ConfigError: when there is no such method.
        """
        return load_method(self.algorithm)


def _check_async(config: RunConfig, path: str, tiered: bool) -> None:
    """Refuse asynchronous tiers where there are none, and a buffer that the clients of a flat method never fill."""
    clients = config.clients
    if config.method_class.rounds_differ and "async" in (clients.mode, config.teams.mode):
        raise ConfigError(
            f"{path}clients.mode, {path}teams.mode: {config.algorithm} draws what each round is. Expected no async."
        )
    if tiered and config.teams.mode == "async":
        cohort = max(1, round(config.teams.participation * config.teams.count))
        most = min(config.teams.concurrency or cohort, config.teams.count)
        config.teams.require_buffer(f"{path}teams.", most, f"{most} of {config.teams.count} teams on a call at a time")
        _check_links(config, path)
    if clients.mode == "async" and not tiered:
        count = clients.count - config.evaluation.unseen_of(clients.count)
        cohort = max(1, round(clients.participation * count))
        most = min(clients.concurrency or cohort, count)
        clients.require_buffer(f"{path}clients.", most, f"{most} of {count} clients on a call at a time")


def _check_links(config: RunConfig, path: str) -> None:
    """Refuse that teams which are not waited for share a link, where their rounds are others at another time."""
    delays, mode = config.delays, config.clients.mode
    if delays.server_links == "shared" and (delays.availability_trace or mode not in ("sync", "deadline")):
        raise ConfigError(
            f"{path}delays.server_links=shared: with teams.mode=async teams receive later where others are called "
            f"meanwhile, and with clients.mode={mode} or an availability_trace their rounds are others then. Expected "
            "clients.mode=sync or deadline, without a trace; or teams.mode=sync or deadline; or server_links=each."
        )


def _check_evaluation(config: RunConfig, path: str) -> None:
    """Refuse personal models for methods that have their own, or nothing to fine-tune with; and to train nobody."""
    plan, kind = config.evaluation, config.method_class
    key = f"{path}evaluation.personal={plan.personal}"
    if plan.personal != "none" and (kind.has_personal_model or kind.takes_families):
        raise ConfigError(
            f"{key}: {config.algorithm} has personal models of its own, and is evaluated with these. Expected none."
        )
    if plan.personal == "tuned" and not issubclass(kind.Config, LocalSgd):
        raise ConfigError(
            f"{key}: {kind.Config.__name__}, the settings of {config.algorithm}, has no learning rate and batch size "
            "to fine-tune with: expected a subclass of strata.engine.method.local.LocalSgd. Use last."
        )
    unseen, count = plan.unseen_of(config.clients.count), config.clients.count
    if unseen >= count:
        raise ConfigError(
            f"{path}evaluation.unseen={plan.unseen:g} is out of range: of clients.count={count}, {unseen} would never "
            "train. Expected that one is left, at least."
        )


def _check_output(output: str, path: str) -> None:
    """Refuse a folder without a name, and one named by a variable, for which a shell would have put its value."""
    if not output.strip():
        raise ConfigError(f"{path}output={output!r}: expected the name of a folder; . is the one that you stand in.")
    named = next((name for name in re.findall(r"\$(\w+)", output) if name in os.environ), None)
    if named is not None:
        raise ConfigError(
            f"{path}output={output}: ${named} stands there as it is, and no shell put its value in. Write the folder "
            "itself; ~ is that of your home."
        )


def _check_secure(config: RunConfig, path: str, tiered: bool) -> None:
    """Refuse secure aggregation where there is no cohort that is added up together, or its size is not known before."""
    if "secure" not in config.transport.up:
        return
    if config.clients.mode == "async":
        raise ConfigError(
            f"{path}transport.up=[…,secure]: with {path}clients.mode=async uploads come one by one, and secure "
            "aggregation adds up those of a cohort. Expected clients.mode=sync or deadline."
        )
    kind = config.method_class
    if tiered and issubclass(kind, TieredAlgorithm) and kind.regroups:
        raise ConfigError(
            f"{path}transport.up=[…,secure]: {config.algorithm} forms teams anew between rounds, and its messages' "
            "sizes depend on those of teams. Take secure out."
        )


def _check_agents(agents: AgentsConfig, algorithm: str) -> None:
    """Refuse policies and layouts that the method does not know."""
    control = load_method(algorithm).Control
    if control is None:
        if agents.policy == "none":
            return
        raise ConfigError(f"agents.policy={agents.policy}: {algorithm} leaves no decisions to agents. Set it to none.")
    known = ["none", "rllib", *control.heuristics]
    if agents.policy not in known:
        raise ConfigError(
            f"agents.policy={agents.policy}: {algorithm} knows no such policy.{closest(agents.policy, known)} "
            f"Expected one of {', '.join(known)}."
        )
    if agents.layout and agents.layout not in control.layouts:
        raise ConfigError(
            f"agents.layout={agents.layout}: {algorithm} has no such layout.{closest(agents.layout, control.layouts)} "
            f"Expected one of {', '.join(control.layouts)}."
        )


def for_seed(config: RunConfig, seed: int) -> RunConfig:
    """The configuration of one of a run's several seeds: ``seed`` is that one, and ``seeds`` empty."""
    return replace(config, seed=seed, seeds=[])
