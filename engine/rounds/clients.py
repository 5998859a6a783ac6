"""The client tier: private states, client calls, and what they cost in virtual time. Free of Ray."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from strata.engine.clock.delays import call_timing, drops_out
from strata.engine.determinism import single_thread
from strata.engine.method.messages import Context
from strata.engine.method.requests import Evaluation
from strata.engine.params import Params
from strata.engine.rounds.pools import ClientCall, ClientReply, EvaluationCall, Evaluations
from strata.engine.rounds.records import CallRecord
from strata.engine.rounds.world import World
from strata.engine.seeding import derive
from strata.engine.training.trainer import Trainer
from strata.engine.tree import count_bytes


class ClientHost:
    """The clients of one process. Serves as a :class:`ClientPool` when everything runs in one process."""

    def __init__(self, world: World, device: str) -> None:
        """Start without states: a client's is made at its first call. ``device`` is torch's name of where to train."""
        self._world = world
        self._trainer = Trainer(world.data.dataset, device, world.evaluation_batch)
        self._states: dict[int, Any] = {}

    def run(self, calls: Sequence[ClientCall]) -> list[ClientReply]:
        """Make the calls one after the other.

        Raises:
            TrainingError: naming client, team and round when local training breaks.
        """
        return [self._run(call) for call in calls]

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate the given clients; see :class:`EvaluationCall`."""
        return {client: self._evaluate(client, call.shared) for client in call.clients}

    def states(self, clients: Iterable[int]) -> dict[int, Any]:
        """States of those clients that have been called at least once."""
        return {client: self._states[client] for client in clients if client in self._states}

    def restore(self, states: Mapping[int, Any]) -> None:
        """Replace the states of the given clients."""
        self._states.update(states)

    def _state(self, client: int) -> Any:
        if client not in self._states:
            self._states[client] = self._first_state(client)
        return self._states[client]

    @single_thread()
    def _first_state(self, client: int) -> Any:
        seed = derive(self._world.seed, "client", client)
        return self._world.algorithm.init_client(self._world.infos[client], seed)

    def _run(self, call: ClientCall) -> ClientReply:
        world, client = self._world, call.client
        info, profile, rows = world.infos[client], world.profiles[client], world.data.clients[client]
        key = (call.round, call.team_round, client)
        context = Context(call.round, call.team_round, derive(world.seed, "step", *key))
        if call.probe:
            steps = world.algorithm.probe_step(info, call.down, context)
        else:
            steps = world.algorithm.client_step(info, self._state(client), call.down, context)
        result, work = self._trainer.drive(
            steps, rows.train, rows.test, context.seed, _where(info.team, call), rows.validation
        )
        bytes_down, bytes_up = count_bytes(call.down), count_bytes(result.up)
        timing = call_timing(
            profile,
            world.parent(client),
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            flops=work.flops,
            seed=world.seed,
            key=key,
        )
        lost_after = None if call.probe else drops_out(profile, world.seed, key)
        if lost_after is not None:
            timing = timing.cut(lost_after * timing.total_s)
        elif not call.probe:
            self._states[client] = result.state
        record = CallRecord(
            client=client,
            team=info.team,
            team_round=call.team_round,
            device=profile.device,
            status="probe" if call.probe else "ok" if lost_after is None else "lost",
            bytes_down=bytes_down,
            bytes_up=bytes_up if lost_after is None else 0,
            flops=work.flops,
            samples=work.samples,
            steps=work.steps,
            latency_s=timing.latency_s,
            download_s=timing.download_s,
            compute_s=timing.compute_s,
            upload_s=timing.upload_s,
            loss=work.loss if lost_after is None else None,
            metrics=result.metrics,
        )
        if world.sleep_scale:
            time.sleep(record.total_s * world.sleep_scale)
        return ClientReply(client, result.up if lost_after is None else None, record)

    def _evaluate(self, client: int, shared: Mapping[str, Params]) -> Mapping[str, Evaluation]:
        rows, state = self._world.data.clients[client], self._states.get(client)
        if state is None:  # never called: as it would start, which is not kept
            state = self._first_state(client)
        steps = self._world.algorithm.client_evaluate(self._world.infos[client], state, shared)
        scores, _ = self._trainer.drive(steps, rows.train, rows.test, 0, f"client {client}, evaluation")
        return scores


def _where(team: int | None, call: ClientCall) -> str:
    if team is None:
        return f"client {call.client}, round {call.round}"
    return f"client {call.client} (team {team}), round {call.round}, team round {call.team_round}"
