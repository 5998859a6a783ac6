"""From a configuration to the world of its run: data, partition, teams, delays, method."""

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.delays import server_profile, team_profile
from strata.engine.clock.presence import Presence, read_presence
from strata.engine.clock.profiles import client_profiles
from strata.engine.config.given import NOTHING, Given, main_names
from strata.engine.config.protection import protected
from strata.engine.config.schema import ClientsConfig, RunConfig, TeamsConfig
from strata.engine.config.tasks import require_task
from strata.engine.data.capacity import require_time
from strata.engine.data.dataset import ClientData, Dataset
from strata.engine.data.federated import build
from strata.engine.data.mapped import release
from strata.engine.errors import ConfigError
from strata.engine.evaluation.personal import Personal
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd
from strata.engine.method.requests import Answer, Request, Sgd, Train, Trained
from strata.engine.models.base import Buildable, built, init_params
from strata.engine.models.factory import spec_of
from strata.engine.models.spec import Family, ModelSpec
from strata.engine.params import flatten
from strata.engine.rounds.beside.desk import serves_one_model
from strata.engine.rounds.cohort import choose
from strata.engine.rounds.mixing import Mixing
from strata.engine.rounds.schedules import Waiting
from strata.engine.rounds.team_tier import called_members
from strata.engine.rounds.world import Method, TierPlan, World
from strata.engine.seeding import derive
from strata.engine.training.abreast.duals import linear
from strata.engine.training.batches import require_plan
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.lanes import LEAST
from strata.engine.training.sequential import Sequential
from strata.engine.training.width import width_of
from strata.engine.transport.attacks import attackers, multiple, with_flipped_labels
from strata.engine.transport.taking import Taking
from strata.engine.transport.wire import wire_of

EXCHANGE_S = 1e-3
"""What a server's exchange with its clients takes on the wall, at least."""


def build_world(config: RunConfig, given: Given = NOTHING) -> World:
    """Data, partition, teams, delays and method of a run, some of it given in Python; starts nothing.

    Raises:
        StrataError: when they do not fit together.
    """
    kind, seed, clients = config.method_class, config.seed, config.clients.count
    teams = _teams(config, given)

    def updates(dataset: Dataset, rows: Sequence[ClientData]) -> NDArray[np.float32]:
        spec = spec_of(config.model, dataset.input_shape, dataset.classes)
        return first_updates(spec, dataset, rows, seed)

    data = given.dealt or build(
        config.data, config.partition, config.teams.formation, clients, teams, seed, updates, given.data, given.rows
    )
    require_task(config, data.dataset)
    spec = spec_of(config.model, data.dataset.input_shape, data.dataset.classes)
    method = kind(config.method, spec)
    unseen = choose(range(clients), config.evaluation.unseen_of(clients), seed, "unseen")
    method.population = clients - len(unseen)
    _require_short(method, config.algorithm)
    hostile = attackers(config.attacks, np.delete(np.arange(clients), unseen), seed)
    if config.attacks.kind == "label_flip" and given.dealt is None:
        data = with_flipped_labels(data, hostile)
    wire = wire_of(config.transport)
    world = World(
        algorithm=method,
        data=data,
        profiles=client_profiles(config.delays, clients, seed, given.profiles),
        presence=_presence(config.delays),
        server_shares=config.delays.server_links == "shared",
        team_shares=config.delays.team_links == "shared",
        team_profile=team_profile(config.delays),
        server_profile=server_profile(config.delays),
        clients_plan=_tier_plan(config.clients, "schedule", given.schedule),
        teams_plan=_tier_plan(config.teams, "team_schedule", given.team_schedule),
        seed=seed,
        evaluation_batch=config.evaluation.batch_size,
        evaluated_clients=None if config.evaluation.clients == "all" else config.evaluation.clients,
        batch_clients=(width := _width(config, spec)),
        dual=_is_dual(config, spec, width),
        state_cache_mib=config.state.cache_mib,
        sleep_scale=config.delays.sleep_scale if config.delays.mode == "sleep" else 0.0,
        main=main_names(config),
        personal=Personal(config.evaluation.personal, config.evaluation.tuned.epochs),
        unseen=unseen,
        counts_pairs=config.evaluation.counts_pairs,
        further=config.evaluation.further(data.dataset.task == "multi_label"),
        wire=wire,
        taking=Taking(config.robust.mean, config.robust.share, wire.server_deviation),
        attackers=hostile,
        attack_factor=multiple(config.attacks),
    )
    _require_called(world)
    _require_served(world)
    _require_planned(world)
    _ = world.metrics  # one that is not there is said now, and not by an actor
    release(data.dataset.x, data.dataset.y)  # who holds what may follow from all labels
    return protected(config, world)


def _teams(config: RunConfig, given: Given) -> int:
    """How many teams there are; 0 in a flat method, for which a schedule of teams is refused."""
    if issubclass(config.method_class, TieredAlgorithm):
        return config.teams.count
    if given.team_schedule is not None:
        raise ConfigError(
            f"team_schedule={given.team_schedule!r:.80}: {config.algorithm} has no teams. Give schedule=, which says "
            "how long servers wait for their clients."
        )
    return 0


def _require_short(method: Method, name: str) -> None:
    """Refuse a round of more team rounds than anybody waits for."""
    if isinstance(method, TieredAlgorithm):
        rounds = method.team_rounds
        require_time(rounds * EXCHANGE_S, f"{name}: a round of {rounds:,} team rounds", "Lower their number.")


def _require_planned(world: World) -> None:
    """Refuse a call of more steps than can be planned, by the client that makes most of them."""
    config = world.algorithm.config
    if isinstance(config, LocalSgd):
        require_plan(int(world.train_samples.max()), config.batch_size, config.length)


def _require_served(world: World) -> None:
    """Refuse a server's test rows where the global model is not evaluated as it is."""
    if len(world.data.server.test) and not serves_one_model(world.algorithm):
        raise ConfigError(
            f"data.server_test_fraction: {type(world.algorithm).__name__} has its clients evaluated in a way of "
            "its own, so the server cannot do it. Expected 0."
        )


def _require_called(world: World) -> None:
    """Refuse teams of which every client is unseen: they could not make a round."""
    for team, members in called_members(world, world.data.teams).items():
        if not len(members):
            raise ConfigError(
                f"evaluation.unseen leaves {len(world.unseen)} of {len(world.data.clients)} clients out, and all "
                f"{len(world.data.teams[team])} of team {team} are among them: expected one at least that trains. "
                "Lower it, or take another seed or fewer teams."
            )


def first_updates(
    spec: Buildable, dataset: Dataset, clients: Sequence[ClientData], seed: int, epochs: int = 1
) -> NDArray[np.float32]:
    """Each client's change of a common fresh model after an epoch of SGD (lr 0.1, batch 32): ``(C, D)`` float32.

    What ``teams.formation=similarity`` and ``hierarchical`` cluster. Costs no virtual time.
    """
    trainer, start = Sequential(dataset), init_params(spec, derive(seed, "similarity"))
    request = Train(spec, start, Sgd(0.1), 32, Length(epochs))

    def step() -> Generator[Request, Answer | None, Tensor]:
        trained = yield request
        assert isinstance(trained, Trained)
        return flatten(trained.params) - flatten(start)

    def talk(client: int, rows: ClientData) -> Conversation[Tensor]:
        return Conversation(step(), rows, derive(seed, "similarity", client), f"client {client}, team formation")

    return np.stack([drive(trainer, talk(client, rows))[0].numpy() for client, rows in enumerate(clients)])


def _presence(delays: DelayConfig) -> Presence | None:
    return read_presence(delays.availability_trace, delays.availability_period_s) if delays.availability_trace else None


def _width(config: RunConfig, spec: ModelSpec | Family) -> int:
    on_gpu = config.training.device == "cuda" or config.clients.num_gpus > 0
    specs = spec.members if isinstance(spec, Family) else [spec]
    return width_of(config.training.batch_clients, specs, on_gpu and config.training.device != "cpu")


def _is_dual(config: RunConfig, spec: ModelSpec | Family, width: int) -> bool:
    """Whether linear models are trained in their dual form; refused where none is, or clients train one by one."""
    if config.training.linear == "primal":
        return False
    if not any(linear(built(one)) for one in (spec.members if isinstance(spec, Family) else [spec])):
        what = "none of model.family is" if isinstance(spec, Family) else f"model.name={config.model.name} is not"
        raise ConfigError(f"training.linear=dual: {what} one linear layer. Expected mclr, or training.linear=primal.")
    if width < LEAST:
        raise ConfigError(
            f"training.linear=dual is for clients that train together: expected training.batch_clients ≥ {LEAST}, got "
            f"{width}."
        )
    return True


def _tier_plan(config: ClientsConfig | TeamsConfig, key: str, schedule: Waiting | None) -> TierPlan:
    if (config.mode == "given") != (schedule is not None):
        raise ConfigError(
            f"mode={config.mode}: how long servers wait is given in Python, and no file holds it. Give it as {key}=, "
            f"also to a run that is resumed or opened, e.g. strata.run(resume=FOLDER, {key}={key})."
        )
    mixing = Mixing(config.update, config.staleness, config.staleness_exponent, config.staleness_grace, config.mixing)
    return TierPlan(
        config.mode,
        config.deadline_s,
        config.participation,
        config.concurrency,
        config.buffer,
        config.max_staleness,
        mixing,
        schedule,
    )
