"""Checks of a method's whole runs: that it learns, and that its results do not rest on how a run is made.

Each takes the subject, raises a :class:`~strata.engine.errors.ConformanceError` that says what to do, and returns what
is worth saying though it holds, as a rule nothing.
"""

import torch
from torch import Tensor

from strata.cluster.conformance.subject import Digests, Run, Subject
from strata.engine.config.schema import for_seed
from strata.engine.errors import ConformanceError
from strata.engine.method.calls import LOST, PROBE
from strata.engine.rounds.costs import CallCosts
from strata.engine.tree import leaves

TOLERANCE = 1e-4
"""What a value may differ by, absolutely and relatively, after a round in which clients were trained as one."""

ABOVE_CHANCE = 0.2
WIDTHS = (4, 3)
ROUNDS = 2  # of the runs that are compared with the whole one
MORE_SEEDS = 4  # with which is tried again what may differ by right with one


def learns(subject: Subject) -> str:
    """The main model's loss on test data falls, and, where there are classes, its accuracy rises above chance."""
    first, last = subject.whole.scores[0], subject.whole.scores[-1]
    drawn = subject.world.algorithm.rounds_differ  # whether a round moves the global model, too
    kind = "GM" if "GM" in last and not (drawn and "PM" in last) else "PM"
    accuracy = max(scores.accuracy for scores in last.values())
    data = subject.world.data.dataset
    least = 1 / data.classes + ABOVE_CHANCE
    if last[kind].loss < first[kind].loss and (accuracy > least or not data.has_classes):
        return ""
    more = f", and the accuracy to {accuracy:.2f}; expected a lower loss, and more than {least:.2f}"
    raise ConformanceError(
        f"in {subject.config.rounds} rounds the {kind}'s test loss went from {first[kind].loss:.3f} to "
        f"{last[kind].loss:.3f}{more if data.has_classes else '; expected a lower loss'}. Mend the method, "
        "or give it another step size or more rounds, e.g. method.lr=0.03 rounds=20."
    )


def repeats_its_run(subject: Subject) -> str:
    """A run that is made again gives the same bits."""
    _require_equal(
        subject, subject.run(ROUNDS), "a second run", "Draw from seeds that you are given, and read no clock."
    )
    return ""


def resumes(subject: Subject) -> str:
    """A run that is resumed from a checkpoint ends as one that was not ended."""
    remedy = "Keep all that later rounds rest on in the states; nothing on self, in the module or in files."
    _require_equal(subject, subject.went_on(ROUNDS), "a run that was resumed after its first round", remedy)
    return ""


def is_the_same_on_ray(subject: Subject) -> str:
    """A run on Ray, its clients in two actors, gives the bits of one in-process."""
    remedy = "Keep nothing on self or in the module: each process has its own."
    _require_equal(subject, subject.on_ray(ROUNDS), "a run on Ray, with two actors,", remedy)
    return ""


def comes_close_when_clients_are_trained_as_one(subject: Subject) -> str:
    """Clients that are trained as one come to what they come to one by one, whoever is beside them."""
    wide, narrow = (subject.together(width, ROUNDS) for width in WIDTHS)
    if differing := _differing(wide.digests[-1], narrow.digests[-1]):
        raise ConformanceError(
            f"{differing} differ between training.batch_clients={WIDTHS[0]} and {WIDTHS[1]}: what a client comes to "
            "rests on who is beside it. A sample's loss must rest on that sample alone, but for batch.mean."
        )
    said = f"some requests are answered one by one: {'; '.join(wide.singly)}" if wide.singly else ""
    apart = _apart(subject.whole, wide)
    if not apart:
        return said
    # Rounding may choose otherwise among nearly equal values, as max pooling does, but not with most seeds.
    configs = subject.config, subject.configured(f"training.batch_clients={WIDTHS[0]}")
    seeds = range(subject.config.seed + 1, subject.config.seed + 1 + MORE_SEEDS)
    with_more = [_apart(*(subject.run(1, for_seed(config, seed)) for config in configs)) for seed in seeds]
    if 2 * sum(map(bool, with_more)) < MORE_SEEDS:
        return "; ".join(filter(None, [said, f"{apart} with one seed, and not with most others"]))
    raise ConformanceError(
        f"{apart}, and with other seeds, too. Let a sample's loss rest on that sample alone, but for batch.mean."
    )


def _apart(alone: Run, together: Run) -> str:
    """Which value of a run's first round differs where clients are trained as one, if any does, and by how much."""
    one_by_one = dict(leaves(alone.states[0]))
    for path, other in leaves(together.states[0]):
        one = one_by_one[path]
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            continue
        if not torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE):
            return (
                f"after a round {path} of (server, teams, clients) differs by {float((one - other).abs().max()):.2g} "
                "where clients are trained as one"
            )
    return ""


def costs_what_was_counted(subject: Subject) -> str:
    """Bytes and FLOPs of its calls, counted without training, are those of the calls, unless each round has its own."""
    if subject.world.algorithm.rounds_differ:
        return ""
    costs, calls = CallCosts(subject.world), subject.whole.calls[0]
    more = 0
    for client, status, *found in zip(
        calls.client, calls.status, calls.bytes_down, calls.flops, calls.bytes_up, strict=True
    ):
        if status in (PROBE, LOST):
            continue
        cost = costs.call(int(client), {})
        counted = cost.bytes_down, cost.flops, cost.bytes_up
        if any(real < least for real, least in zip(found, counted, strict=True)):
            raise ConformanceError(
                f"a call of client {client} cost {_said(found)}; counted without training: {_said(counted)}. What is "
                "counted is a lower bound: let what a client computes and sends rest on its message and its data."
            )
        more += tuple(found) != counted
    if not more:
        return ""
    return (
        f"{more} of {len(calls)} calls cost more than was counted without training: where that rests on what was "
        "learnt, expected times and the timing model are lower bounds"
    )


def _said(cost: object) -> str:
    down, flops, up = (int(value) for value in cost)  # type: ignore[attr-defined]
    return f"{down} bytes down, {flops} FLOPs, {up} bytes up"


def _require_equal(subject: Subject, run: Run, what: str, remedy: str) -> None:
    if differing := _differing(subject.whole.digests[ROUNDS - 1], run.digests[-1]):
        raise ConformanceError(f"{what} has other {differing} after round {ROUNDS}. {remedy}")


def _differing(one: Digests, other: Digests) -> str:
    return " and ".join(name for name in one if one[name] != other[name])
