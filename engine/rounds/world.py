"""Everything a tier needs to know of the run, fixed at its start. Sent to every actor once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.devices import Profile
from strata.engine.data.dataset import FederatedData
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.calls import NO_TEAM
from strata.engine.method.messages import ClientInfo, TeamInfo

Method = Algorithm[object, object, object, object]
"""The method of a run: what its states and messages are, only it knows."""


@dataclass(frozen=True)
class TierPlan:
    """How a server gathers its children.

    Attributes:
        mode: ``sync`` waits for all; ``deadline`` drops what arrives later than ``deadline_s`` virtual seconds.
        deadline_s: see ``mode``.
        participation: share of the children invited per round, at least one.
    """

    mode: Literal["sync", "deadline"]
    deadline_s: float
    participation: float


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
        evaluated_clients: how many clients each evaluation draws; None: it takes all.
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
    evaluated_clients: int | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the data, who holds which rows, the teams, and the delay profiles."""
        digest = hashlib.sha256()
        for array in (self.data.dataset.x, self.data.dataset.y):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.data)
        for rows in self.data.clients:
            for part in (rows.train, rows.test, rows.validation):
                digest.update(part.tobytes() + b"/")
        teams = {team: list(map(int, members)) for team, members in sorted(self.data.teams.items())}
        digest.update(repr((teams, list(self.profiles), self.team_profile, self.server_profile)).encode())
        return digest.hexdigest()

    def info_in(self, client: int, team: int) -> ClientInfo:
        """What servers know of a client while it is in a team (or in none)."""
        info = self.infos[client]
        return info if team in (NO_TEAM, info.team) else replace(info, team=team)

    def team_info(self, team: int, members: Sequence[int]) -> TeamInfo:
        """What the global server knows of a team with these members."""
        return TeamInfo(team, tuple(members), sum(self.infos[client].train_samples for client in members))

    @cached_property
    def availability(self) -> NDArray[np.float64]:
        """Probability that a client is there in a round, ``(N,)``, by client id."""
        return np.array([profile.availability for profile in self.profiles])

    @cached_property
    def team_of(self) -> Mapping[int, int]:
        """The team of each client by client id, as teams were formed at the start; empty without a team tier."""
        return {client: team for team, members in self.data.teams.items() for client in members}

    @cached_property
    def infos(self) -> Sequence[ClientInfo]:
        """What servers know of each client, by client id."""
        labels, classes = self.data.dataset.y, self.data.dataset.classes
        return [
            ClientInfo(
                id=client,
                team=self.team_of.get(client),
                train_samples=len(rows.train),
                test_samples=len(rows.test),
                label_counts=np.bincount(labels[rows.train], minlength=classes),
                device=self.profiles[client].device,
                flops_per_s=self.profiles[client].flops_per_s,
            )
            for client, rows in enumerate(self.data.clients)
        ]
