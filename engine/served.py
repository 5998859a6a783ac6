"""The models of a federation as they are evaluated: the architecture that a client is served with, and its values.

A method says in ``client_evaluate`` which architecture and which values its personal (PM), team (TM) and global model
(GM) have for a client. Its generator is led to its end, and what it asked to be evaluated is what is given here: also
of methods whose clients differ in their architectures, or fine-tune before they are evaluated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from strata.engine.data.dataset import Dataset
from strata.engine.data.outline import Outline
from strata.engine.errors import StrataError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.calls import NO_TEAM
from strata.engine.method.requests import Answer, Evaluate, Evaluation
from strata.engine.models.base import Buildable
from strata.engine.params import Params
from strata.engine.rounds.world import World, teams_by_client
from strata.engine.seeding import derive
from strata.engine.state.snapshot import Snapshot
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.modules import filled
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked, Broken, Trainer

GLOBAL, TEAM, PERSONAL = "GM", "TM", "PM"
CALLED = {GLOBAL: "global model", TEAM: "team models", PERSONAL: "personal models"}
WORDS = {GLOBAL: "--global", TEAM: "--team ID", PERSONAL: "--client ID"}
VERBS = {GLOBAL: "global_model()", TEAM: "team_model(t)", PERSONAL: "client_model(i)"}
"""What asks for a model of each kind, on the command line and in Python."""


@dataclass(frozen=True)
class Served:
    """A model as it is evaluated.

    Attributes:
        kind: ``GM``, ``TM`` or ``PM``.
        spec: its architecture.
        params: its values, by name: float32 on the CPU.
    """

    kind: str
    spec: Buildable
    params: Params

    def module(self) -> nn.Module:
        """A module of its own with these values, in evaluation mode."""
        return filled(self.spec, self.params).eval()


class Blind:
    """A trainer without data: it finds nothing right, and refuses all but evaluations."""

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer]:
        """Answer evaluations as they come.

        Raises:
            StrataError: for any other request.
        """
        if any(not isinstance(one.request, Evaluate) for one in asked):
            raise _needs_data("is trained on its client's data before it is evaluated")
        return [Evaluation(0, len(one.rows), 0.0) for one in asked]


@dataclass
class Witness:
    """A trainer that notes which models it was asked to evaluate."""

    trainer: Trainer
    seen: list[tuple[Evaluate, Answer | Broken]] = field(default_factory=list)

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer | Broken]:
        """Answer as the trainer does."""
        answers = self.trainer.answer(asked)
        for one, answer in zip(asked, answers, strict=True):
            if isinstance(one.request, Evaluate):
                self.seen.append((one.request, answer))
        return answers

    def evaluated(self, answer: Evaluation) -> Evaluate:
        """What was asked when this was answered.

        Raises:
            StrataError: where it is no answer of this trainer.
        """
        for request, given in self.seen:
            if given is answer:
                return request
        raise StrataError(
            "a model cannot be had: its method's client_evaluate gives scores that no Evaluate was answered with. "
            "Return the Evaluation that each model's own Evaluate came to."
        )


def global_model(world: World, snapshot: Snapshot) -> Served:
    """The global model.

    Raises:
        StrataError: where the method has none.
    """
    if world.algorithm.global_model(snapshot.server) is None:
        raise _none(world, GLOBAL)
    return _served(world, snapshot, 0, GLOBAL)


def team_model(world: World, snapshot: Snapshot, team: int) -> Served:
    """The model of a team, by its id.

    Raises:
        StrataError: where the method has no teams, there is no such team, or it has not taken part in a round yet.
    """
    if not isinstance(world.algorithm, TieredAlgorithm):
        raise _none(world, TEAM)
    topology = snapshot.topology or world.data.teams
    _require(team, len(world.data.teams), "team")
    if snapshot.team_states.get(team) is None or not topology.get(team):
        raise StrataError(f"team {team} has taken part in none of the {snapshot.round} rounds: it has no model yet.")
    return _served(world, snapshot, topology[team][0], TEAM)


def client_model(world: World, snapshot: Snapshot, client: int) -> Served:
    """The personal model of a client, by its id: what it is evaluated with, also before its first call.

    Raises:
        StrataError: where the method has no personal models, or there is no such client.
    """
    _require(client, len(world.data.clients), "client")
    return _served(world, snapshot, client, PERSONAL)


def _served(world: World, snapshot: Snapshot, client: int, kind: str) -> Served:
    teams = snapshot.topology or world.data.teams
    team = int(teams_by_client(teams, len(world.data.clients))[client])
    info = world.info_in(client, team)
    state = snapshot.clients.get(client)
    if client not in snapshot.clients:
        state = world.service.first_state(info, derive(world.seed, "client", client))
    blind = isinstance(world.data.dataset, Outline)
    witness = Witness(Blind() if blind else Sequential(world.data.dataset, "cpu", world.evaluation_batch))
    steps = world.service.evaluation(info, state, _shared(world, snapshot, team))
    seed, rows = world.service.evaluation_seed(client), world.data.clients[client]
    talk = Conversation(steps, rows, seed, f"client {client}, evaluation")
    scores, _ = drive(witness, talk)
    if kind not in scores:
        raise _none(world, kind)
    if blind and len(witness.seen) > len(scores):
        raise _needs_data("is chosen by how models do on its client's data")
    found = witness.evaluated(scores[kind])
    return Served(kind, found.model, found.params)


def _shared(world: World, snapshot: Snapshot, team: int) -> Mapping[str, Params]:
    """The models that a client's servers offer it, as its team's server does when it is evaluated."""
    method = world.algorithm
    found = method.global_model(snapshot.server)
    shared = {} if found is None else {GLOBAL: found}
    if isinstance(method, TieredAlgorithm) and team != NO_TEAM:
        if (state := snapshot.team_states.get(team)) is not None:
            shared[TEAM] = method.team_model(state)
        elif found is not None:
            shared[TEAM] = found
    return shared


def _needs_data(why: str) -> StrataError:
    return StrataError(
        f"a model cannot be had without the data: it {why}, and these were given in Python. Give them again: "
        "strata.load_run(FOLDER, data=data)."
    )


def _none(world: World, kind: str) -> StrataError:
    has = [other for other in _kinds(world) if other != kind]
    called, words, verbs = (" or ".join(text[other] for other in has) for text in (CALLED, WORDS, VERBS))
    return StrataError(
        f"{type(world.algorithm).__name__} has no {CALLED[kind]}. Ask for its {called} instead: {words} of "
        f"`strata export`, {verbs} in Python."
    )


def _kinds(world: World) -> list[str]:
    """The kinds of models that a method of this sort has."""
    method = world.algorithm
    there = {
        PERSONAL: method.has_personal_model or method.takes_families or world.personal.kind != "none",
        TEAM: isinstance(method, TieredAlgorithm),
        GLOBAL: not (method.takes_families or method.shares_a_part),
    }
    return [kind for kind in there if there[kind]]


def _require(number: int, count: int, what: str) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < count:
        raise StrataError(f"{what} {number!r}: there is none. Expected a whole number from 0 to {count - 1}.")


def normalisation(dataset: Dataset) -> str:
    """How inputs reach a model, for people: as they are, or from pixels by a formula."""
    if dataset.x.dtype.name != "uint8":
        return "as they are"
    return f"(x / 255 - {dataset.shift:g}) / {dataset.scale:g} of x in 0..255"
