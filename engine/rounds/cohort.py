"""A cohort: what a server invites in one go, what each client is sent, and when the exchange is closed.

A cohort is a team's clients in a team round, or, in a flat method, the global server's clients in a round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from strata.engine.clock.delays import available, straggling_s
from strata.engine.method.messages import Assignment, Received
from strata.engine.rounds.pools import ClientCall, ClientPool, ClientReply
from strata.engine.rounds.records import CallRecord
from strata.engine.rounds.world import TierPlan, World
from strata.engine.seeding import generator
from strata.engine.tree import leaves


def client_calls(
    world: World,
    cohort: Sequence[int],
    owner_state: Any,
    round: int,
    team_round: int,
    assignments: Mapping[int, Assignment],
) -> list[ClientCall]:
    """The calls of a cohort: what the method sends to each client, given its server's state and its assignments."""
    method: Any = world.algorithm  # flat and tiered methods share the name to_client, not the type of the state
    calls = []
    distinct: dict[tuple[Any, ...], Any] = {}
    for client in cohort:
        down = method.to_client(owner_state, world.infos[client], assignments[client])
        # Messages of the same tensors and numbers become one object, which travels once.
        key = tuple((path, id(leaf) if isinstance(leaf, Tensor) else (type(leaf), leaf)) for path, leaf in leaves(down))
        calls.append(ClientCall(client, round, team_round, distinct.setdefault(key, down)))
    return calls


def assignments_for(
    world: World, cohort: Sequence[int], decided: Mapping[int, Assignment] | None
) -> dict[int, Assignment]:
    """What each client of a cohort is told: the method's default, overlaid by what was decided for it."""
    defaults = {client: world.algorithm.default_assignment(world.infos[client]) for client in cohort}
    return defaults if decided is None else {c: {**defaults[c], **decided.get(c, {})} for c in cohort}


def probe_calls(world: World, clients: Sequence[int], g: Any, round: int) -> list[ClientCall]:
    """The calls that assess the speed of clients before a round; they come before its first team round."""
    down = world.algorithm.probe(g)
    if down is None:
        raise ValueError(f"{type(world.algorithm).__name__} has no probe")
    return [ClientCall(client, round, 0, down, probe=True) for client in clients]


def choose(members: Sequence[int], size: int, seed: int, *purpose: str | int) -> list[int]:
    """``size`` of the members (all, if there are fewer), drawn without replacement, in ascending order."""
    if size >= len(members):
        return sorted(members)
    drawn = generator(seed, *purpose).choice(len(members), size=size, replace=False)
    return sorted(members[int(i)] for i in drawn)


def cohort_size(plan: TierPlan, children: int) -> int:
    """How many of a server's children are invited per round: their share, rounded, and at least one."""
    return max(1, round(plan.participation * children))


def invite_clients(world: World, members: Sequence[int], round: int, team_round: int, team: int) -> list[int]:
    """The cohort among the members that are available now; empty when none is."""
    here = available(world.availability, members, world.seed, (round, team_round))
    size = cohort_size(world.clients_plan, len(members))
    return choose(here, size, world.seed, "cohort", round, team_round, team)


def invite_teams(world: World, round: int) -> list[int]:
    """The teams of a global round."""
    teams = sorted(world.data.teams)
    return choose(teams, cohort_size(world.teams_plan, len(teams)), world.seed, "teams", round)


@dataclass(frozen=True)
class Gathered:
    """A cohort's result: the uploads that count (by client id), how long it took, all call records."""

    ups: Sequence[Received[Any]]
    seconds: float
    straggling: float
    calls: Sequence[CallRecord]


def gather(replies: Sequence[ClientReply], plan: TierPlan) -> Gathered:
    """Close a cohort: drop what is lost or late, and compute how long its server waited.

    A synchronous server waits for its slowest client; one with a deadline waits no longer than that. A lost client is
    waited for until it is lost. Stragglers are measured over the clients whose uploads count.
    """
    limit = plan.deadline_s if plan.mode == "deadline" else float("inf")
    ups, records, waited = [], [], [0.0]
    for reply in replies:
        record = reply.record
        if record.status == "ok" and record.total_s > limit:
            record = replace(record, status="late")
        waited.append(min(record.total_s, limit))
        records.append(record)
        if record.status == "ok":
            ups.append(Received(reply.client, 0, reply.up))
    on_time = [record.total_s for record in records if record.status == "ok"]
    return Gathered(ups, max(waited), straggling_s(on_time), records)


def run_cohort(
    world: World,
    clients: ClientPool,
    members: Sequence[int],
    state: Any,
    round: int,
    team_round: int,
    team: int,
    decided: Mapping[int, Assignment] | None,
) -> Gathered:
    """One server's exchange with its clients: invite, call, gather.

    ``decided``: what clients are told this round; of those invited, the clients in it take part. None: all of them, as
    the method's default says.
    """
    cohort = invite_clients(world, members, round, team_round, team)
    if decided is not None:
        cohort = [client for client in cohort if client in decided]
    told = assignments_for(world, cohort, decided)
    gathered = gather(clients.run(client_calls(world, cohort, state, round, team_round, told)), world.clients_plan)
    ups = [replace(up, samples=world.infos[up.sender].train_samples, assignment=told[up.sender]) for up in gathered.ups]
    return replace(gathered, ups=ups)
