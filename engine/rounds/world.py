"""Everything a tier needs to know of the run, fixed at its start. Sent to every actor once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.devices import Profile
from strata.engine.clock.presence import Presence
from strata.engine.clock.profiles import Profiles
from strata.engine.data.dataset import Dataset, FederatedData, IntArray
from strata.engine.data.mapped import chunks, release
from strata.engine.data.outline import Outline
from strata.engine.data.parts import ClientRows, Listed
from strata.engine.evaluation.personal import Personal, Service, service_of
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.calls import NO_TEAM
from strata.engine.method.find import load_function
from strata.engine.method.merging import Weighing
from strata.engine.method.messages import ClientInfo, TeamInfo
from strata.engine.method.requests import Metric
from strata.engine.on_demand import OnDemand
from strata.engine.rounds.mixing import Mixing
from strata.engine.transport.privacy import Privacy
from strata.engine.transport.service import carried
from strata.engine.transport.taking import Taking
from strata.engine.transport.wire import Wire

Method = Algorithm[object, object, object, object]
"""The method of a run: what its states and messages are, only it knows."""


@dataclass(frozen=True)
class TierPlan:
    """How a server gathers its children.

    Attributes:
        mode: ``sync`` waits for all; ``deadline`` drops what arrives later than ``deadline_s`` virtual seconds;
            ``async`` makes the server's step as soon as ``buffer`` uploads are in; ``given`` does as ``schedule`` says.
        deadline_s: see ``mode``.
        participation: share of the children invited per round, at least one.
        concurrency: async: children on a call at a time; 0: as many as are invited per round, by ``participation``.
        buffer: async: uploads per step of the server.
        max_staleness: async: what is staler is dropped; -1: nothing is.
        mixing: async: how uploads enter the server's state.
        schedule: given: a :class:`~.schedules.Waiting`, of which each server takes a copy.
    """

    mode: Literal["sync", "deadline", "async", "given"]
    deadline_s: float
    participation: float
    concurrency: int = 0
    buffer: int = 1
    max_staleness: int = -1
    mixing: Mixing = field(default_factory=Mixing)
    schedule: Any = None


def cohort_size(plan: TierPlan, children: int) -> int:
    """How many of a server's children are invited per round: their share, rounded, and at least one."""
    return max(1, round(plan.participation * children))


def called_size(plan: TierPlan, children: int, away: int = 0) -> int:
    """How many of a server's children are called now, given how many of them are on a call already."""
    if plan.mode == "async" and plan.concurrency:
        return max(0, min(plan.concurrency, children) - away)
    return max(0, cohort_size(plan, children) - away)


class Infos(OnDemand[ClientInfo]):
    """What servers know of each client, by client id, as teams were formed at the start."""

    def __init__(self, dataset: Dataset, rows: ClientRows, profiles: Sequence[Profile], team_of: IntArray) -> None:
        """``team_of``: the team of each client, ``(N,)``, or :data:`NO_TEAM`."""
        super().__init__(len(rows))
        self._dataset, self._rows, self._profiles, self._team_of = dataset, rows, profiles, team_of

    def made(self, place: int) -> ClientInfo:
        """What servers know of the client with this id."""
        rows, profile, team = self._rows[place], self._profiles[place], int(self._team_of[place])
        counts = _label_counts(self._dataset, rows.train)
        release(self._dataset.y)
        return ClientInfo(
            id=place,
            team=None if team == NO_TEAM else team,
            train_samples=len(rows.train),
            test_samples=len(rows.test),
            label_counts=counts,
            device=profile.device,
            flops_per_s=profile.flops_per_s,
        )


def _label_counts(dataset: Dataset, rows: IntArray) -> IntArray:
    """Samples of each class or label among some rows, ``(K,)``; zeros where the target is something else."""
    if dataset.task == "multi_label":
        return np.asarray(dataset.y[rows].sum(axis=0, dtype=np.int64))
    if dataset.has_classes:
        return np.bincount(dataset.y[rows], minlength=dataset.classes)
    return np.zeros(dataset.classes, np.int64)


def teams_by_client(teams: Mapping[int, Sequence[int]], clients: int) -> IntArray:
    """The team of each of ``clients`` clients, ``(N,)``, from the members of each team; else :data:`NO_TEAM`."""
    team_of = np.full(clients, NO_TEAM, np.int64)
    for team, members in teams.items():
        team_of[np.asarray(members, np.int64)] = team
    return team_of


@dataclass(frozen=True)
class World:
    """The run as its tiers see it: method, data, delays and rules. Immutable, picklable, free of Ray.

    Attributes:
        algorithm: the method; stateless, so one copy per process serves all its clients.
        data: the data set, who holds which rows, and the teams.
        profiles: delay profile by client id.
        team_profile, server_profile: of every team server, and of the global server.
        clients_plan: how clients are gathered by their server; ``teams_plan``: how teams are by the global server.
        seed: of the run; all randomness derives from it.
        evaluation_batch: samples per forward pass of an evaluation.
        sleep_scale: wall seconds slept per virtual second; 0 computes delays only.
        batch_clients: requests of so many clients are answered as one operation, at most; 1: one by one.
        dual: linear models are trained in their dual form, which rounds otherwise.
        evaluated_clients: how many clients each evaluation draws; None: it takes all.
        personal: which personal models clients are evaluated with, where the method has none.
        unseen: ids of the clients that are never called, ascending; they are evaluated, apart from the others.
        counts_pairs: whether evaluations count which class was taken for which.
        further: metrics that are computed client by client, by name, each as ``module:function``.
        presence: which clients are there when; None: that is left to their profiles' probability.
        server_shares: whether the children of the global server share its link; ``team_shares``: whether the clients of
            a team server share that.
        wire: the stages of messages between clients and their servers; ``taking``: how servers take in uploads.
        attackers: ids of the clients that attack; ``attack_factor``: by what they multiply what they changed.
        privacy: what ε is said of the run; None without noise.
        main: what the run needs of ``__main__``, a script or a notebook, by name; actors have another module there.
        state_cache_mib: MiB of private states that a process keeps in memory; what is beyond lies on its disk.
    """

    algorithm: Method
    data: FederatedData
    profiles: Sequence[Profile]
    team_profile: Profile
    server_profile: Profile
    clients_plan: TierPlan
    teams_plan: TierPlan
    seed: int
    evaluation_batch: int = 1024
    sleep_scale: float = 0.0
    batch_clients: int = 1
    dual: bool = False
    evaluated_clients: int | None = None
    personal: Personal = field(default_factory=Personal)
    unseen: Sequence[int] = ()
    counts_pairs: bool = False
    further: tuple[tuple[str, str], ...] = ()
    state_cache_mib: float = 1024.0
    presence: Presence | None = None
    server_shares: bool = False
    team_shares: bool = False
    wire: Wire = field(default_factory=Wire)
    taking: Taking = field(default_factory=Taking)
    attackers: Sequence[int] = ()
    attack_factor: float = 1.0
    privacy: Privacy | None = None
    main: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the data, who holds which rows, the teams, and the delay profiles."""
        if isinstance(self.data.dataset, Outline):
            return self.data.dataset.digest
        digest = hashlib.sha256()
        for array in (self.data.dataset.x, self.data.dataset.y):
            digest.update(f"{array.dtype}{array.shape}".encode())
            for part in chunks(array):
                digest.update(part.data)
        self._rows.digest(digest.update)
        for team, members in sorted(self.data.teams.items()):
            digest.update(f"team {team} {len(members)}".encode() + np.asarray(members, np.int64).tobytes())
        links = Profiles.of(self.profiles).fingerprint, self.team_profile, self.server_profile
        digest.update(repr(links).encode())
        for rows in (self.data.server.train, self.data.server.test):
            digest.update(rows.tobytes())  # of none, nothing
        if self.presence is not None:
            digest.update(self.presence.fingerprint.encode())
        return digest.hexdigest()

    @cached_property
    def service(self) -> Service:
        """What clients do when they are called and evaluated."""
        service = service_of(self.algorithm, self.personal, self.seed)
        return carried(service, self.wire.up, self.attackers, self.attack_factor)

    @cached_property
    def metrics(self) -> tuple[tuple[str, Metric], ...]:
        """The functions of ``further``, as this process finds them."""
        return tuple((name, load_function(path, f"evaluation.own_metrics.{name}")) for name, path in self.further)

    @property
    def stateless(self) -> bool:
        """Whether clients keep nothing between their calls, so that any actor may make any client's call."""
        return self.algorithm.stateless and not self.personal.is_kept and not self.wire.up.keeps

    @property
    def settles_later(self) -> bool:
        """Whether what a call makes of a client waits until its server takes it in: it may come late, or be lost."""
        teams_go_on = bool(self.data.teams) and self.teams_plan.mode == "async"
        lost_by_others = self.presence is not None and (self.team_shares if self.data.teams else self.server_shares)
        return self.clients_plan.mode == "async" or teams_go_on or lost_by_others

    def shares(self, team: int) -> bool:
        """Whether the clients of a team's server, or of the global one (:data:`NO_TEAM`), share its link."""
        return self.server_shares if team == NO_TEAM else self.team_shares

    def link(self, team: int) -> Profile:
        """The link of a team's server to its clients, or of the global one (:data:`NO_TEAM`)."""
        return self.server_profile if team == NO_TEAM else self.team_profile

    @property
    def merges(self) -> Weighing | None:
        """What uploads are weighed by that are merged where their senders live; None: they travel one by one.

        They do where servers make more of them than a mean, or choose which of them count, or learn that late.
        """
        plain = self.taking.is_plain and self.clients_plan.mode == "sync" and not self.settles_later
        return self.algorithm.merges if plain else None

    @cached_property
    def seen(self) -> Sequence[int]:
        """The clients that may be called, ids ascending: all but the unseen ones."""
        return self.called(range(len(self.data.clients)))

    def called(self, clients: Sequence[int]) -> Sequence[int]:
        """Those of some clients that may be called, in their order."""
        return [client for client in clients if client not in self._unseen] if self.unseen else clients

    def cohort(self, team: int) -> int:
        """How many clients of a team, as it was formed at the start, or without teams, are invited per round."""
        members = self.seen if team == NO_TEAM else self.called(self.data.teams[team])
        return cohort_size(self.clients_plan, len(members))

    @cached_property
    def _unseen(self) -> frozenset[int]:
        return frozenset(self.unseen)

    @cached_property
    def _rows(self) -> ClientRows:
        return Listed.of(self.data.clients)

    @property
    def train_samples(self) -> NDArray[np.integer]:
        """Training samples of each client, ``(N,)``, by client id."""
        return self._rows.train_sizes

    def info_in(self, client: int, team: int) -> ClientInfo:
        """What servers know of a client while it is in a team (or in none)."""
        info = self.infos[client]
        return info if team in (NO_TEAM, info.team) else replace(info, team=team)

    def team_info(self, team: int, members: Sequence[int]) -> TeamInfo:
        """What the global server knows of a team with these members."""
        return TeamInfo(team, tuple(members), int(self.train_samples[list(members)].sum()))

    @cached_property
    def availability(self) -> NDArray[np.float64] | None:
        """Probability that a client is there in a round, ``(N,)``, by client id; None where all always are."""
        profiles = Profiles.of(self.profiles)
        return None if profiles.always_there else profiles.availability

    @cached_property
    def team_of(self) -> IntArray:
        """The team of each client, ``(N,)``, as teams were formed at the start; :data:`NO_TEAM` without a team tier."""
        return teams_by_client(self.data.teams, len(self.data.clients))

    @cached_property
    def infos(self) -> Sequence[ClientInfo]:
        """What servers know of each client, by client id."""
        return Infos(self.data.dataset, self._rows, self.profiles, self.team_of)
