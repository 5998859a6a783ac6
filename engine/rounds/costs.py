"""What client calls will cost, counted without training: the basis of expected times, and of the timing fidelity."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import cast

from cachetools import LRUCache
from torch import Tensor

from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.calls import LOST
from strata.engine.method.messages import Assignment, C, ClientResult, ClientStep, Context, Up
from strata.engine.method.requests import Work
from strata.engine.method.situation import CallCost
from strata.engine.rounds.accounts import bytes_down, bytes_up, charge
from strata.engine.rounds.beside.probes import probe_calls
from strata.engine.rounds.cohort import assignments_for, client_calls
from strata.engine.rounds.mixing import rebased
from strata.engine.rounds.pools import ClientCall, ClientReply, EvaluationCall, Evaluations, Failure, Key, Ticket
from strata.engine.rounds.schedules import Moment
from strata.engine.rounds.world import World
from strata.engine.seeding import derive
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.dry import Dry
from strata.engine.tree import kinds, leaves

FIRST = Context(1, 1, 0)  # costs are the same at every moment
COSTS_KEPT = 2**17
"""Costs that are kept, the last used ones; one is by client and by what it is told, or by what it receives."""


class CallCosts:
    """Costs of a run's client calls, each counted once and kept as long as there is room.

    A client's step is driven by a trainer that answers every request without computing: training returns the start,
    evaluation finds nothing right. Bytes and FLOPs therefore are those of the real call, unless a method decides by
    what it has learnt how much it computes or sends.
    """

    def __init__(self, world: World) -> None:
        """Count nothing before it is asked; a fresh global state stands for all later ones, of the same shapes."""
        self._world, self._trainer = world, Dry(world.data.dataset)
        self._owner = self._g = world.algorithm.init_global(derive(world.seed, "global"))
        if isinstance(world.algorithm, TieredAlgorithm):
            team, members = next(iter(world.data.teams.items()))
            down = world.algorithm.to_team(self._g, world.team_info(team, members), {}, FIRST)
            self._owner = world.algorithm.start_team(down, None)
            self._team_down = down
        self._known: LRUCache[tuple[object, ...], CallCost] = LRUCache(COSTS_KEPT)

    def call(self, client: int, assignment: Assignment) -> CallCost:
        """Bytes and FLOPs of a client's call under an assignment, which lies on top of the method's default."""
        key = (client, *assignment.items())
        if key not in self._known:
            team = int(self._world.team_of[client])
            told = assignments_for(self._world, [client], {client: assignment}, team)
            (call,) = client_calls(self._world, self._owner, Moment(1, 1), team, told)
            cost = self._received(call)
            if any(isinstance(value, float) for value in assignment.values()):
                return cost  # a weight hardly comes twice; to keep it would fill the memory
            self._known[key] = cost
        return self._known[key]

    def of(self, call: ClientCall) -> CallCost:
        """Bytes and FLOPs of a call as it is handed over, with the bytes that the client is really sent, if it is.

        They are the least that it costs where a method decides by what it has learnt how much it computes or sends.
        """
        cost = self.call(call.client, call.assignment)
        return cost if call.down is None else replace(cost, bytes_down=bytes_down(self._world, call))

    def _received(self, call: ClientCall) -> CallCost:
        """Cost of a call, kept by what the client receives: all that its work can depend on, beside its own data."""
        key = (call.client, "receives", _digest(call.down))
        if key not in self._known:
            info = self._world.infos[call.client]
            state = self._world.algorithm.init_client(info, 0)
            steps = self._world.algorithm.client_step(info, state, call.down, FIRST)
            self._known[key] = self._count(call, steps)
        return self._known[key]

    def probe(self, client: int) -> CallCost:
        """Bytes and FLOPs of the method's probe on a client.

        Raises:
            ValueError: when the method has no probe.
        """
        key = (client, "probe")
        if key not in self._known:
            (call,) = probe_calls(self._world, [client], self._g, 1, self._world.team_of)
            steps = self._world.algorithm.probe_step(self._world.infos[client], call.down, Context(1, 0, 0))
            self._known[key] = self._count(call, steps)
        return self._known[key]

    def _count(self, call: ClientCall, steps: ClientStep[C, Up]) -> CallCost:
        result, work = self._driven(call, steps)
        sent, came = bytes_down(self._world, call), bytes_up(self._world, call, result.up)
        return CallCost(sent, came, work.flops)

    def _driven(self, call: ClientCall, steps: ClientStep[C, Up]) -> tuple[ClientResult[C, Up], Work]:
        rows = self._world.data.clients[call.client]
        return drive(self._trainer, Conversation(steps, rows, 0, f"client {call.client}, its cost"))

    def require_changes(self) -> None:
        """Refuse to count changes where uploads hold no model that their sender was sent; tried with one client.

        Raises:
            ConfigError: naming what an upload holds.
        """
        up, down = self.first_exchange()
        rebased(up, down, down, 1.0)

    def first_exchange(self) -> tuple[object, object]:
        """An upload of one client, as the trainer that does not compute makes it, and what the client was sent."""
        client = int(self._world.train_samples.argmax())
        told = assignments_for(self._world, [client], None, int(self._world.team_of[client]))
        (call,) = client_calls(self._world, self._owner, Moment(1, 1), int(self._world.team_of[client]), told)
        info = self._world.infos[client]
        steps = self._world.algorithm.client_step(info, self._world.algorithm.init_client(info, 0), call.down, FIRST)
        result, _ = self._driven(call, steps)
        return result.up, call.down

    def require_team_changes(self) -> None:
        """The same for what teams send.

        Raises:
            ConfigError: naming what an upload holds.
        """
        assert isinstance(self._world.algorithm, TieredAlgorithm)
        rebased(self._world.algorithm.to_global(self._owner), self._team_down, self._team_down, 1.0)


PRICED = ()
"""Stands for an upload that was priced and not made."""


class PricedClients:
    """A :class:`~.pools.ClientPool` that charges calls what they would cost. Nobody trains or keeps anything."""

    def __init__(self, world: World, costs: CallCosts) -> None:
        """``costs`` of the calls of ``world``; worlds of the same data may share them."""
        self._world, self._costs = world, costs

    def submit(self, calls: Sequence[ClientCall]) -> Sequence[Ticket]:
        """Note the calls; they are priced when their results are asked for."""
        return calls

    def results(self, tickets: Sequence[Ticket]) -> Iterator[ClientReply | Failure]:
        """Price the calls, in their order: replies with bytes, FLOPs and virtual seconds, but without a real upload."""
        for call in cast(Sequence[ClientCall], tickets):
            cost = self._costs.probe(call.client) if call.probe else self._costs.of(call)
            yield priced(self._world, call, cost)

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate nobody: where nothing is learnt there are no scores."""
        return {}

    def states(self, clients: Sequence[int], since: int) -> dict[int, object]:
        """Private states: none, because nobody trains."""
        return {}

    def settle(self, calls: Sequence[Key], round: int) -> None:
        """Settle nothing, because nothing is kept."""

    def restore(self, clients: Sequence[int], states: Mapping[int, object]) -> None:
        """Restore nothing, because nothing is kept."""


class Prices:
    """Replies of client calls before these are made, with the virtual seconds that they take at least."""

    def __init__(self, world: World, costs: CallCosts | None = None) -> None:
        """Count nothing before it is asked; ``costs`` of the calls of ``world`` may be shared."""
        self._world, self._given = world, costs

    @cached_property
    def _costs(self) -> CallCosts:
        return self._given or CallCosts(self._world)

    def __call__(self, call: ClientCall) -> ClientReply:
        """What a call is charged, until its client is lost if it will be; as it is once the call is made."""
        return priced(self._world, call, self._costs.of(call))


def priced(world: World, call: ClientCall, cost: CallCost) -> ClientReply:
    """The reply of a call that is not made but charged what it would cost."""
    made = charge(world, call, cost.bytes_down, cost.bytes_up, Work(cost.flops), {})
    return ClientReply(call.client, None if made.status == LOST else PRICED, made)


def _digest(down: object) -> bytes:
    """Equal for messages of equal types, shapes and numbers; a fixed few bytes, where a large model has many shapes."""
    told = [
        f"{path}{leaf.dtype}{[*leaf.shape]}" if isinstance(leaf, Tensor) else f"{path}{type(leaf)}{leaf!r}"
        for path, leaf in leaves(down)
    ]
    return hashlib.blake2b("\n".join([*told, *map(str, kinds(down))]).encode(), digest_size=16).digest()
