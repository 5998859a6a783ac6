"""What client calls will cost, counted without training: the basis of expected times, and of the timing fidelity."""

from typing import Any

from cachetools import LRUCache
from torch import Tensor

from strata.engine.method.messages import Assignment, Context
from strata.engine.method.situation import Cost
from strata.engine.rounds.cohort import assignments_for, client_calls, probe_calls
from strata.engine.rounds.pools import ClientCall
from strata.engine.rounds.world import World
from strata.engine.seeding import derive
from strata.engine.training.dry import DryTrainer
from strata.engine.tree import count_bytes, leaves

COSTS_KEPT = 2**17
"""Costs that are kept, the last used ones; one is by client and by what it is told, or by what it receives."""


class CallCosts:
    """Costs of a run's client calls, each counted once and kept as long as there is room.

    A client's step is driven by a trainer that answers every request without computing: training returns the start,
    evaluation finds nothing right. Bytes and FLOPs therefore are those of the real call, unless a method decides by
    what it has learnt how much it computes or sends.
    """

    def __init__(self, world: World) -> None:
        """Costs nothing until asked; a fresh global state stands for all later ones, whose shapes are the same."""
        self._world, self._trainer = world, DryTrainer(world.data.dataset)
        seed = derive(world.seed, "global")
        self._owner = self._g = world.algorithm.init_global(seed)
        method: Any = world.algorithm
        if world.data.teams:
            self._owner = method.start_team(method.to_team(self._g), None)
        self._known: LRUCache[tuple[Any, ...], Cost] = LRUCache(COSTS_KEPT)

    def call(self, client: int, assignment: Assignment) -> Cost:
        """Of a call under an assignment, on top of the method's default."""
        key = (client, *assignment.items())
        if key not in self._known:
            told = assignments_for(self._world, [client], {client: assignment})
            (call,) = client_calls(self._world, [client], self._owner, 1, 1, told)
            cost = self._received(call)
            if any(isinstance(value, float) for value in assignment.values()):
                return cost  # a weight hardly comes twice; to keep it would fill the memory
            self._known[key] = cost
        return self._known[key]

    def _received(self, call: ClientCall) -> Cost:
        """Of a call by what the client receives: all that its work can depend on, beside its own data."""
        shapes = (
            (path, leaf.dtype, tuple(leaf.shape)) if isinstance(leaf, Tensor) else (path, leaf)
            for path, leaf in leaves(call.down)
        )
        key = (call.client, "receives", *shapes)
        if key not in self._known:
            info = self._world.infos[call.client]
            state = self._world.algorithm.init_client(info, 0)
            steps = self._world.algorithm.client_step(info, state, call.down, Context(1, 1, 0))
            self._known[key] = self._count(call, steps)
        return self._known[key]

    def probe(self, client: int) -> Cost:
        """Of a client's probe."""
        key = (client, "probe")
        if key not in self._known:
            (call,) = probe_calls(self._world, [client], self._g, 1)
            steps = self._world.algorithm.probe_step(self._world.infos[client], call.down, Context(1, 0, 0))
            self._known[key] = self._count(call, steps)
        return self._known[key]

    def _count(self, call: ClientCall, steps: Any) -> Cost:
        rows = self._world.data.clients[call.client]
        where = f"client {call.client}, its cost"
        result, work = self._trainer.drive(steps, rows.train, rows.test, 0, where, rows.validation)
        return Cost(count_bytes(call.down), count_bytes(result.up), work.flops)
