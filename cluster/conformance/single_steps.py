"""Checks of a method's single steps: one round, played by hand.

Each takes the subject, raises a :class:`~strata.engine.errors.ConformanceError` that says what to do, and returns what
is worth saying though it holds, as a rule nothing.
"""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strata.cluster.conformance.subject import AT, Played, Subject
from strata.engine.determinism import single_thread, torch_scope
from strata.engine.errors import ConfigError, ConformanceError, EmptyCohortError
from strata.engine.method.algorithm import FlatAlgorithm, TieredAlgorithm
from strata.engine.method.merging import shares, weight_of, whole
from strata.engine.method.messages import Received
from strata.engine.method.mirrors import Change, changed
from strata.engine.models.spec import Family, ModelSpec
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import EvaluationCall
from strata.engine.rounds.world import Method
from strata.engine.runtime.passing.packing import packed, unpacked
from strata.engine.state.encoding import pack, unpack
from strata.engine.state.types import state_types
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.sequential import Sequential
from strata.engine.tree import count_bytes, fingerprint, leaves

FAMILY = ((8,), (16, 8))  # hidden layers of the two MLPs that a method of several architectures is tried with
DERIVED = "Draw from a generator made of context.seed (or of the seed that init_global and init_client are given)"


def makes_a_round(subject: Subject) -> str:
    """Its states and messages are tensors and numbers, its steps fit together, and a round changes something."""
    played = subject.played
    owners = [(played.g, played.g_after)] if list(leaves(played.g)) else []
    owners += [] if owners else [(played.states[c], played.results[c].state) for c in subject.pair]
    if all(fingerprint(before) == fingerprint(after) for before, after in owners):
        raise ConformanceError(
            "a round leaves the global state (or, where that is empty, the clients' states) as it was. Return the new "
            "state from global_step, or from client_step in its ClientResult."
        )
    return ""


def has_described_settings(subject: Subject) -> str:
    """Its ``Config`` is a frozen dataclass whose fields say what they are."""
    kind = type(subject.world.algorithm).Config
    if not dataclasses.is_dataclass(kind) or not _is_frozen(kind):
        raise ConformanceError(f"{kind.__name__} can be changed; expected @dataclass(frozen=True).")
    silent = [field.name for field in dataclasses.fields(kind) if not field.metadata.get("help")]
    if silent:
        raise ConformanceError(
            f'{kind.__name__}.{silent[0]} does not say what it is. Declare it by option(default, "what it is").'
        )
    return ""


def repeats_itself(subject: Subject) -> str:
    """Equal seeds give equal bits."""
    again = subject.play(subject.fresh()).prints
    if differing := _differing(subject.played.prints, again):
        raise ConformanceError(f"with equal seeds {differing} differs from one time to the next. {DERIVED}.")
    return ""


def draws_from_its_seed_alone(subject: Subject) -> str:
    """The global generators of Python, numpy and torch neither enter its results nor are moved by it."""
    made: list[Mapping[str, str]] = []
    moved: set[str] = set()
    for seed in (1, 2):
        with torch_scope(seed), _python_and_numpy(seed):
            before = _generators()
            made.append(subject.play(subject.fresh()).prints)
            moved |= {name for name, state in _generators().items() if state != before[name]}
    if differing := _differing(*made):
        raise ConformanceError(f"{differing} rests on a global random generator. {DERIVED}.")
    if moved:
        raise ConformanceError(f"its steps draw from the global generator of {', '.join(sorted(moved))}. {DERIVED}.")
    return ""


def keeps_nothing_on_itself(subject: Subject) -> str:
    """A call gives the same whoever was called before: one object serves all clients of a process."""
    played, (_, second) = subject.played, subject.pair
    alone = subject.call(subject.fresh(), second, played.states[second], played.downs[second])
    if fingerprint((alone.up, alone.state)) != fingerprint((played.results[second].up, played.results[second].state)):
        raise ConformanceError(
            "what a client's call gives rests on which clients were called before. Keep nothing on self: what is a "
            "client's goes into its state, what is everybody's into the global one."
        )
    return ""


def leaves_what_it_is_given(subject: Subject) -> str:
    """Steps change neither states nor messages that they are given."""
    method = subject.fresh()
    played = subject.play(method)
    for client, result in played.results.items():
        subject.call(method, client, result.state, played.downs[client])
    _serve_again(subject, method, played)
    found = {name: fingerprint(part) for name, part in played.parts.items()}
    if changed := _differing(played.prints, found):
        raise ConformanceError(
            f"{changed} is changed by a later step. Make new tensors (a + b, not a.add_(b)) and new objects "
            "(dataclasses.replace) instead."
        )
    return ""


@single_thread()
def _serve_again(subject: Subject, method: Method, played: Played) -> None:
    ups = subject.received(played.told, played.results)
    if isinstance(method, TieredAlgorithm):
        subject.stepped(method.team_step(played.owner, ups, AT))
        method.to_global(played.team_after)
        ups = [Received(0, 1, played.team_up)]
    again: Any = method
    subject.stepped(again.global_step(played.g, ups, AT))


def sends_frozen_messages(subject: Subject) -> str:
    """Messages are frozen dataclasses, and have a price in bytes."""
    for name, message in subject.played.messages.items():
        kind = type(message)
        if not dataclasses.is_dataclass(message) or not _is_frozen(kind):
            raise ConformanceError(f"{name} is a {kind.__name__}; expected an instance of a frozen dataclass.")
        if not count_bytes(message) and dataclasses.fields(message):
            raise ConformanceError(f"{name} carries nothing: its fields are all empty. Leave them out, or fill them.")
    return ""


def _is_frozen(kind: Any) -> bool:
    return bool(kind.__dataclass_params__.frozen)


def survives_wire_and_disk(subject: Subject) -> str:
    """States and messages come back as they were, from another process and from a checkpoint."""
    types = state_types(subject.world.algorithm)
    for name, part in subject.played.parts.items():
        if fingerprint(unpacked(packed(part))) != fingerprint(part):
            raise ConformanceError(f"{name} arrives in another process as something else. Use tensors and numbers.")
        if fingerprint(unpack(pack(part, types, name), types)) != fingerprint(part):
            raise ConformanceError(f"{name} comes back from a checkpoint as something else. Use tensors and numbers.")
    return ""


def refuses_nobody(subject: Subject) -> str:
    """Servers refuse to aggregate nothing, by an EmptyCohortError."""
    method, played = subject.fresh(), subject.played
    served = {"global_step": played.g}
    if isinstance(method, TieredAlgorithm):
        served["team_step"] = played.owner
    for name, state in served.items():
        try:
            subject.stepped(getattr(method, name)(state, [], AT))
        except EmptyCohortError:
            continue
        except Exception as error:
            raise ConformanceError(
                f"without uploads {name} raises {type(error).__name__}: {error}. {_BEGIN}"
            ) from error
        raise ConformanceError(f"{name} aggregates an empty cohort. {_BEGIN}")
    return ""


_BEGIN = 'Begin it with require_cohort("the method\'s name", ups).'


def evaluates_everybody(subject: Subject) -> str:
    """A client is scored by PM, TM and GM as the method says, also before its first call, on all its test data."""
    method, client = subject.fresh(), subject.pair[0]
    model = method.global_model(subject.played.g)
    shared = {} if model is None else {"GM": model}
    wanted = {*(() if method.shares_a_part else shared), *(["PM"] if method.has_personal_model else [])}
    if not wanted:
        raise ConformanceError(
            "it is scored by nothing: global_model gives None, and has_personal_model is not set. Set one of them."
        )
    rows = subject.world.data.clients[client]
    first = ClientHost(subject.world, "cpu").evaluate(EvaluationCall([client], shared))[client]
    steps = method.client_evaluate(subject.world.infos[client], subject.played.results[client].state, shared)
    later, _ = drive(Sequential(subject.world.data.dataset), Conversation(steps, rows, 7, f"client {client}"))
    for when, scores in (("before its first call", first), ("after its call", later)):
        if set(scores) != wanted:
            raise ConformanceError(
                f"{when} a client is scored by {sorted(scores)}; expected {sorted(wanted)}, as global_model, "
                "shares_a_part and has_personal_model say. Mend client_evaluate, or what the class says."
            )
        if any(score.samples != len(rows.test) for score in scores.values()):
            raise ConformanceError(f"{when} a client is scored on a part of its {len(rows.test)} test samples.")
    return ""


def takes_families_if_it_says_so(subject: Subject) -> str:
    """A family of architectures is taken where ``takes_families`` says so, and refused elsewhere."""
    kind, data = type(subject.world.algorithm), subject.world.data.dataset
    inputs = (data.input_shape, data.classes)
    family = Family(tuple(ModelSpec("mlp", *inputs, (("hidden", hidden),)) for hidden in FAMILY))
    if not kind.takes_families:
        try:
            kind(subject.config.method, family).init_global(1)
        except ConfigError:
            return ""
        raise ConformanceError(
            "a family of models is taken though takes_families is not set. Build the model in init_global, e.g. by "
            "init_params(self.model, seed), which refuses it."
        )
    method = kind(subject.config.method, family)
    models = [method.personal_model(method.init_client(info, 1)) for info in subject.world.infos[: len(FAMILY)]]
    found = [len(model or ()) for model in models]
    if found != (expected := [2 * len(hidden) + 2 for hidden in FAMILY]):
        raise ConformanceError(
            f"the first clients' personal models have {found} tensors; expected {expected}, as clients take the "
            "members of a family in turn. Take family_of(self.model).of(info.id)."
        )
    return ""


def reports_choices_if_it_says_so(subject: Subject) -> str:
    """Clients report options chosen for them where ``has_choices`` says so, and nowhere else."""
    method = subject.fresh()
    reported = [name for result in subject.played.results.values() for name in result.metrics]
    chosen = [name for name in reported if method.is_choice(name)]
    if bool(chosen) != method.has_choices:
        raise ConformanceError(
            f"has_choices is {method.has_choices}, and clients report {', '.join(chosen) or 'no choice'}. Set it as it "
            "is, or mend is_choice."
        )
    return ""


def averages_if_it_says_so(subject: Subject) -> str:
    """The server knows of uploads no more than their mean where ``averages`` says so."""
    method, played = subject.fresh(), subject.played
    if not method.averages or not isinstance(method, FlatAlgorithm):
        return ""
    found = []
    for values in ((-1.0, 2.0), (0.25, 0.75)):  # of one mean
        filled = {
            client: changed(played.results[client].up, None, _filling(value))
            for client, value in zip(subject.pair, values, strict=True)
        }
        ups = [Received(client, 1, up) for client, up in filled.items()]
        found.append(subject.stepped(method.global_step(played.g, ups, AT)))
    for (path, one), (_, other) in zip(leaves(found[0]), leaves(found[1]), strict=True):
        alike = not isinstance(one, Tensor) or not isinstance(other, Tensor) or torch.allclose(one, other, atol=1e-5)
        if not alike:
            raise ConformanceError(
                f"uploads of one mean leave different values in the global state's {path}, though averages says that "
                "the server uses their mean alone. Leave averages out."
            )
    return ""


def merges_if_it_says_so(subject: Subject) -> str:
    """The mean of uploads leaves what they leave one by one, to the bit, where ``merges`` says so."""
    method, played = subject.fresh(), subject.played
    if method.merges is None:
        return ""
    ups = subject.received(played.told, played.results)
    sent = shares([up.message for up in ups], [weight_of(up.samples, method.merges) for up in ups])
    if any(up is message for up, message in zip((up.message for up in ups), sent, strict=True)):
        raise ConformanceError(
            "uploads differ in what they hold, or hold other than float32 tensors, so that none can be merged though "
            "merges is set. Leave merges out."
        )
    mean = whole([replace(up, message=message) for up, message in zip(ups, sent, strict=True)], method.merges)
    one_by_one, merged = (_stepped(method, played, given) for given in (ups, mean))
    if fingerprint(one_by_one) != fingerprint(merged):
        raise ConformanceError(
            "the mean of two uploads, as one, leaves another state than the two, though merges says that nothing but "
            f"their mean by {method.merges} counts. Take weighted_mean or uniform_mean of them, count them by "
            "up.uploads, or leave merges out."
        )
    if isinstance(method, FlatAlgorithm) and method.assess(played.g, ups, one_by_one):
        raise ConformanceError(
            "assess looks at uploads one by one, and is not asked where merges is set. Leave it out."
        )
    return ""


@single_thread()
def _stepped(method: Any, played: Played, ups: Sequence[Received[Any]]) -> object:
    """The state of the clients' server after its step over some uploads."""
    step = method.team_step if isinstance(method, TieredAlgorithm) else method.global_step
    return step(played.owner, ups, AT)


def _filling(value: float) -> Change:
    """Gives tensors that hold ``value`` throughout."""
    return lambda path, tensor, base: torch.full_like(tensor, value)


def regroups_only_if_it_says_so(subject: Subject) -> str:
    """Teams stay as they are unless ``regroups`` says that the method forms them anew."""
    method, topology = subject.fresh(), {0: [0, 2], 1: [1]}
    if not isinstance(method, TieredAlgorithm) or method.regroups:
        return ""
    if method.regroup(subject.played.g, topology, AT) != topology:
        raise ConformanceError("regroup forms teams anew, and is never asked: set regroups = True.")
    return ""


def has_the_probe_that_its_control_wants(subject: Subject) -> str:
    """Where its ``Control`` assesses clients' speed, there is something to assess it with."""
    method = subject.fresh()
    if method.Control is not None and method.Control.probes and method.probe(subject.played.g) is None:
        raise ConformanceError(f"{method.Control.__name__} wants probes, and probe gives None. Define probe.")
    return ""


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The first part by its name that differs; empty where none does."""
    return next((name for name in one if one[name] != other[name]), "")


# What is looked at are the global generators, so numpy's own is meant.
def _generators() -> Mapping[str, object]:
    """The states of the global generators."""
    name, words, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    numpy = name, np.asarray(words).tobytes(), *rest
    return {"Python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state().numpy().tobytes()}


@contextmanager
def _python_and_numpy(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and numpy, and restore them."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
