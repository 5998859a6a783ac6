"""The client tier: private states, client calls and evaluations, answered by a trainer. Free of Ray."""

import time
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from strata.engine.data.capacity import require_time
from strata.engine.determinism import single_thread
from strata.engine.errors import StateError
from strata.engine.evaluation.counts import asking_for
from strata.engine.method.calls import LOST, NO_TEAM
from strata.engine.method.merging import shares, weight_of
from strata.engine.method.messages import ClientInfo, ClientResult, ClientStep, Context
from strata.engine.method.requests import Evaluation, Work
from strata.engine.rounds.accounts import bytes_down, bytes_up, charge
from strata.engine.rounds.pools import (
    ClientCall,
    ClientReply,
    EvaluationCall,
    Evaluations,
    Failure,
    Key,
    Queue,
    Queued,
    Ticket,
)
from strata.engine.rounds.world import World
from strata.engine.seeding import derive
from strata.engine.state.cache import StateCache
from strata.engine.state.types import state_types
from strata.engine.stopwatch import Spent, Stopwatch, here
from strata.engine.training.batched import Batched
from strata.engine.training.conversation import Conversation, converse
from strata.engine.training.device import keep_freed_memory
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Broken, Trainer

BEFORE = 0
"""The round of states that were restored: before all that are changed by a call."""


class ClientHost:
    """The clients of one process. Serves as a :class:`~.pools.ClientPool` when everything runs in one process."""

    def __init__(self, world: World, device: str) -> None:
        """Start without states: a client's is made at its first call. ``device`` is torch's name of where to train."""
        keep_freed_memory()
        self._world = world
        plainly = world.data.dataset, device, world.evaluation_batch
        self._trainer: Trainer = Batched(*plainly, dual=world.dual) if world.batch_clients > 1 else Sequential(*plainly)
        self._states = StateCache(world.state_cache_mib * 2**20, state_types(world.algorithm))
        # Of clients whose call is made and not yet taken in by its server; without a state there is nothing to hold.
        self._waits = world.settles_later and not world.stateless
        self._made: dict[int, dict[Key, object]] = {}
        self._queue = Queue(self._timed, world.batch_clients, lambda call: call.client)

    def submit(self, calls: Sequence[ClientCall]) -> Sequence[Ticket]:
        """Note the calls; they are made in this order, once something is asked for that rests on them."""
        return self._queue.submit(calls)

    def results(self, tickets: Sequence[Ticket]) -> Iterator[ClientReply | Failure]:
        """Make the calls as their results are asked for, and give what came of each, in the order of the tickets.

        A call that breaks (a loss that is not finite) gives a failure that names client, team and round. Asking again
        gives the same.
        """
        return self._queue.results(cast(Sequence[Queued[ClientCall, ClientReply]], tickets))

    @single_thread()
    def run(self, calls: Sequence[ClientCall]) -> list[ClientReply | Failure]:
        """Make some calls and give what came of each, in their order: :meth:`results` at once, as an actor answers.

        Their uploads come as one where their server makes no more of them than a mean.
        """
        return self._merged(list(self.results(self.submit(calls))))

    def _merged(self, results: list[ClientReply | Failure]) -> list[ClientReply | Failure]:
        weighing = self._world.merges
        came = {place: r for place, r in enumerate(results) if isinstance(r, ClientReply) and r.arrived}
        if weighing is None or not came:
            return results
        weights = [weight_of(int(self._world.train_samples[reply.client]), weighing) for reply in came.values()]
        sent = shares([reply.up for reply in came.values()], weights)
        merged = {place: replace(reply, up=up) for (place, reply), up in zip(came.items(), sent, strict=True)}
        return [merged.get(place, result) for place, result in enumerate(results)]

    @single_thread()
    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate the shared models and the personal ones on the given clients' test data; scores by client id.

        A client that was never called is evaluated with the state that it would start with, which is not kept.

        Raises:
            StrataError: what broke the first evaluation that broke.
        """
        self._queue.finish()
        talks = (self._open_evaluation(client, call) for client in call.clients)
        ended = converse(self._trainer, talks, self._world.batch_clients)
        scores: Evaluations = {}
        for client, (result, _) in zip(call.clients, ended, strict=True):
            if isinstance(result, Broken):
                raise result.error
            scores[client] = result
        return scores

    def settle(self, calls: Sequence[Key], round: int) -> None:
        """What some calls made of their clients is their state, from this round on."""
        for key in calls:
            made = self._made.get(key[0], {})
            if key in made:
                self._states.put(key[0], made[key], round)
                # What came before is over; nobody waits any more for a call that its team has dropped.
                self._made[key[0]] = {other: state for other, state in made.items() if other > key}

    def states(self, clients: Container[int], since: int) -> dict[int, object]:
        """Private states, by client id, of those of the given clients that were changed after the round ``since``."""
        self._queue.finish()
        return dict(sorted(self._states.changed(clients, since)))

    def restore(self, clients: Collection[int], states: Mapping[int, object]) -> None:
        """Give some clients the private states in ``states``, by client id, and the others among them none.

        Clients that are not named keep theirs. Calls that were handed over and not made yet are forgotten.
        """
        self._queue.forget()
        self._states.drop(clients)
        self._made = {client: states for client, states in self._made.items() if client not in clients}
        for client, state in states.items():
            self._states.put(client, state, BEFORE)

    def _state(self, info: ClientInfo, call: ClientCall) -> object:
        made = self._made.get(info.id, {})
        if call.after in made:  # in rounds that its team goes on with
            return made[call.after]
        if info.id not in self._states:
            self._states.put(info.id, self._first_state(info), call.round)
        return self._states.get(info.id)

    def _first_state(self, info: ClientInfo) -> object:
        return self._world.service.first_state(info, derive(self._world.seed, "client", info.id))

    def _timed(self, calls: Sequence[ClientCall]) -> list[ClientReply | Failure]:
        """Make calls together, and note the wall seconds with the first that is answered."""
        with Stopwatch() as watch:
            results = list(self._make(calls))
        for place, result in enumerate(results):
            if isinstance(result, ClientReply):
                results[place] = replace(result, spent=Spent({here(): watch.seconds}))
                break
        return results

    def _make(self, calls: Sequence[ClientCall]) -> Iterator[ClientReply | Failure]:
        ended = converse(self._trainer, map(self._open, calls), self._world.batch_clients)
        weights: dict[tuple[int, int], int] = {}  # of messages that several clients were sent, by identity and team
        for call, (result, work) in zip(calls, ended, strict=True):
            if isinstance(result, Broken):
                yield Failure(result.error)
                continue
            if self._world.stateless and result.state is not None:
                yield Failure(self._kept_state(call, result.state))
                continue
            if (sent := (id(call.down), call.team)) not in weights:
                weights[sent] = bytes_down(self._world, call)
            yield self._close(call, weights[sent], result, work)

    def _kept_state(self, call: ClientCall, state: object) -> StateError:
        """What is said of a method that calls itself stateless, and has a client keep something."""
        where = _where(self._world.info_in(call.client, call.team), call)
        return StateError(
            f"{where}: {type(self._world.algorithm).__name__} says that its clients are stateless, and one keeps a "
            f"{type(state).__name__}. Leave stateless out, or keep None."
        )

    def _open(self, call: ClientCall) -> Conversation[Any]:
        """A call's conversation with the trainer."""
        method, info = self._world.algorithm, self._world.info_in(call.client, call.team)
        seed = derive(self._world.seed, "step", call.round, call.team_round, call.client)
        context = Context(call.round, call.team_round, seed)
        steps: ClientStep[Any, Any]
        if call.probe:
            steps = method.probe_step(info, call.down, context)
        else:
            steps = self._world.service.call(info, self._state(info, call), call.down, context)
        return Conversation(steps, self._world.data.clients[call.client], seed, _where(info, call))

    def _close(self, call: ClientCall, weight: int, result: ClientResult[object, object], work: Work) -> ClientReply:
        """What is sent and kept once a call's conversation is over; ``weight``: bytes that the client was sent."""
        made = charge(self._world, call, weight, bytes_up(self._world, call, result.up), work, result.metrics)
        lost = made.status == LOST
        if not lost and not call.probe:
            self._keep(call, result.state)
        if self._world.sleep_scale:
            asleep_s = made.total_s * self._world.sleep_scale
            require_time(
                asleep_s, "delays.mode=sleep: a client's sleep", "Lower delays.sleep_scale, or mend the delays."
            )
            time.sleep(asleep_s)
        return ClientReply(call.client, None if lost else result.up, made, work.singly)

    def _keep(self, call: ClientCall, state: object) -> None:
        if self._waits:
            self._made.setdefault(call.client, {})[call.key] = state
        else:
            self._states.put(call.client, state, call.round)

    def _open_evaluation(self, client: int, call: EvaluationCall) -> Conversation[Mapping[str, Evaluation]]:
        info, service = self._world.info_in(client, call.team), self._world.service
        state = self._states.get(client) if client in self._states else self._first_state(info)
        steps = service.evaluation(info, state, call.shared)
        if self._world.counts_pairs or self._world.further:
            steps = asking_for(steps, self._world.counts_pairs, self._world.metrics)
        seed, rows = service.evaluation_seed(client), self._world.data.clients[client]
        return Conversation(steps, rows, seed, f"client {client}, evaluation")


def _where(info: ClientInfo, call: ClientCall) -> str:
    if call.team == NO_TEAM:
        return f"client {call.client}, round {call.round}"
    return f"client {call.client} (team {info.team}), round {call.round}, team round {call.team_round}"
