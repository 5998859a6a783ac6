"""What client calls will cost, counted without training: the basis of expected times, and of the timing fidelity."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from cachetools import LRUCache
from torch import Tensor

from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.calls import LOST
from strata.engine.method.length import Length
from strata.engine.method.messages import Assignment, C, ClientResult, ClientStep, Context, Up
from strata.engine.method.requests import Work
from strata.engine.method.situation import CallCost
from strata.engine.models.lines import on_line
from strata.engine.rounds.accounts import bytes_down, bytes_up, charge
from strata.engine.rounds.beside.probes import probe_calls
from strata.engine.rounds.cohort import assignments_for
from strata.engine.rounds.mixing import rebased
from strata.engine.rounds.pools import ClientCall, ClientReply, EvaluationCall, Evaluations, Failure, Key, Ticket
from strata.engine.rounds.world import World
from strata.engine.seeding import derive
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.dry import Dry
from strata.engine.tree import PLAIN, field_names, kinds, leaves, objects_in

FIRST = Context(1, 1, 0)  # costs are the same at every moment
COSTS_KEPT = 2**17
"""Costs that are kept, the last counted ones; one is by client and by what it is told, or by what it receives."""


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
        self._known: dict[tuple[object, ...], CallCost] = {}
        self._lines: LRUCache[tuple[object, ...], dict[int, CallCost]] = LRUCache(COSTS_KEPT)
        self._shapes = Shapes(self._g, self._owner)

    def call(self, client: int, assignment: Assignment) -> CallCost:
        """Bytes and FLOPs of a client's call under an assignment, which lies on top of the method's default."""
        key = (client, *assignment, *assignment.values())  # flat, which is hashed in half of the time
        found = self._known.get(key)
        if found is None:
            found = self._received(self._called(client, assignment))
            # A weight hardly comes twice; to keep it would fill the memory.
            if not any(isinstance(value, float) for value in assignment.values()):
                self._keep(key, found)
        return found

    def _called(self, client: int, assignment: Assignment) -> ClientCall:
        team = int(self._world.team_of[client])
        told = assignments_for(self._world, [client], {client: assignment}, team)[client]
        method: Any = self._world.algorithm  # flat and tiered methods share the name, not the type of the state
        down = method.to_client(self._owner, self._world.info_in(client, team), told)
        return ClientCall(client, team, 1, 1, told, down)

    def _keep(self, key: tuple[object, ...], cost: CallCost) -> None:
        if len(self._known) >= COSTS_KEPT:
            del self._known[next(iter(self._known))]
        self._known[key] = cost

    def of(self, call: ClientCall) -> CallCost:
        """Bytes and FLOPs of a call as it is handed over, with the bytes that the client is really sent, if it is.

        They are the least that it costs where a method decides by what it has learnt how much it computes or sends.
        """
        cost = self.call(call.client, call.assignment)
        return cost if call.down is None else dataclasses.replace(cost, bytes_down=bytes_down(self._world, call))

    def _received(self, call: ClientCall) -> CallCost:
        """Cost of a call, kept by what the client receives: all that its work can depend on, beside its own data.

        Of a method that ships with Strata the epochs are told apart from all else, for the line over them.
        """
        sent: Any = call.down
        field = _epochs_field(sent) if type(self._world.algorithm).__module__.startswith("strata.") else None
        epochs = 0 if field is None else getattr(sent, field).epochs
        alike = self._shapes.digest(sent if field is None else dataclasses.replace(sent, **{field: Length(1)}))
        key = (call.client, "receives", alike, epochs)
        found = self._known.get(key)
        if found is None:
            found = self._by_epochs(call, alike, epochs) if epochs else self._made(call)
            self._keep(key, found)
        return found

    def _by_epochs(self, call: ClientCall, alike: bytes, epochs: int) -> CallCost:
        """Cost of a call, after three numbers of epochs by the line over them; ``alike``: all that it receives beside.

        A client's work grows by as much with each epoch, so that agents which choose among many ask for few
        conversations.
        """
        counted = self._lines.setdefault((call.client, alike), {})
        found = on_line(counted, epochs, "flops")
        if found is None:
            found = counted[epochs] = self._made(call)
        return found

    def _made(self, call: ClientCall) -> CallCost:
        """Cost of a call, of its own conversation."""
        info = self._world.infos[call.client]
        state = self._world.algorithm.init_client(info, 0)
        return self._count(call, self._world.algorithm.client_step(info, state, call.down, FIRST))

    def probe(self, client: int) -> CallCost:
        """Bytes and FLOPs of the method's probe on a client.

        Raises:
            ValueError: when the method has no probe.
        """
        key = (client, "probe")
        found = self._known.get(key)
        if found is None:
            (call,) = probe_calls(self._world, [client], self._g, 1, self._world.team_of)
            steps = self._world.algorithm.probe_step(self._world.infos[client], call.down, Context(1, 0, 0))
            found = self._count(call, steps)
            self._keep(key, found)
        return found

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
        call = self._called(client, {})
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


def _epochs_field(down: object) -> str | None:
    """The field of a message that says for how many epochs its receiver trains; None where there is no such one."""
    if not dataclasses.is_dataclass(down) or isinstance(down, type):
        return None
    lengths = {name: getattr(down, name) for name in field_names(type(down))}
    found = [name for name, value in lengths.items() if isinstance(value, Length) and not value.steps]
    return found[0] if len(found) == 1 else None


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


class Shapes:
    """Digests of messages by their types, shapes and numbers; what is the same object in all of them is told once."""

    def __init__(self, *owners: object) -> None:
        """``owners``: states, which must live on, of whose parts messages are made."""
        self._own: dict[int, str] = {}
        self._parts = {id(part) for owner in owners for part in objects_in(owner)}
        self._owners = owners  # or an id could become another part's

    def digest(self, message: object) -> bytes:
        """Equal for messages of equal types, shapes and numbers; a few bytes, where a large model has many shapes."""
        return hashlib.blake2b(self._told(message).encode(), digest_size=16).digest()

    def _told(self, part: object) -> str:
        if type(part) in PLAIN:
            return f"{type(part)}{part!r}"
        if id(part) in self._parts:
            if id(part) not in self._own:
                self._own[id(part)] = _content(part)
            return self._own[id(part)]
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return f"{type(part)}({','.join([self._told(getattr(part, name)) for name in field_names(type(part))])})"
        return _content(part)


def _content(part: object) -> str:
    told = [
        f"{path}{leaf.dtype}{[*leaf.shape]}" if isinstance(leaf, Tensor) else f"{path}{type(leaf)}{leaf!r}"
        for path, leaf in leaves(part)
    ]
    return hashlib.blake2b("\n".join([*told, *map(str, kinds(part))]).encode(), digest_size=16).hexdigest()
