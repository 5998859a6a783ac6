"""All checks in their order, and what came of each on one method."""

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from strata.cluster.conformance import single_steps, whole_runs
from strata.cluster.conformance.subject import Subject
from strata.engine.errors import StrataError

Check = Callable[[Subject], str]
"""Raises what is wrong, and returns what is worth saying though it holds; its docstring says what holds."""

STEPS: Sequence[Check] = (
    single_steps.has_described_settings,
    single_steps.repeats_itself,
    single_steps.draws_from_its_seed_alone,
    single_steps.keeps_nothing_on_itself,
    single_steps.leaves_what_it_is_given,
    single_steps.sends_frozen_messages,
    single_steps.survives_wire_and_disk,
    single_steps.refuses_nobody,
    single_steps.evaluates_everybody,
    single_steps.takes_families_if_it_says_so,
    single_steps.reports_choices_if_it_says_so,
    single_steps.averages_if_it_says_so,
    single_steps.merges_if_it_says_so,
    single_steps.regroups_only_if_it_says_so,
    single_steps.has_the_probe_that_its_control_wants,
)
RUNS: Sequence[Check] = (
    whole_runs.learns,
    whole_runs.repeats_its_run,
    whole_runs.resumes,
    whole_runs.comes_close_when_clients_are_trained_as_one,
    whole_runs.costs_what_was_counted,
)

Status = Literal["holds", "fails", "left out"]


@dataclass(frozen=True)
class Finding:
    """What came of a check: ``what`` is checked, how it ended, and what there is to say, e.g. what to do."""

    what: str
    status: Status
    said: str = ""


def examine(subject: Subject, ray: bool) -> Iterator[Finding]:
    """Each check in its order, as it is made; where no round can be made, nothing else is tried.

    Args:
        subject: the method.
        ray: also make a run on Ray.
    """
    first = _found(single_steps.makes_a_round, subject)
    yield first
    every = [*STEPS, *RUNS, *([whole_runs.is_the_same_on_ray] if ray else [])]
    for check in every:
        yield _found(check, subject) if first.status == "holds" else Finding(sentence(check), "left out")


def _found(check: Check, subject: Subject) -> Finding:
    try:
        return Finding(sentence(check), "holds", check(subject))
    except StrataError as error:
        return Finding(sentence(check), "fails", str(error))
    except Exception as error:  # of the method's own code, which may raise anything
        return Finding(sentence(check), "fails", _raised(error, subject))


def sentence(check: Check) -> str:
    """What a check is about: the first line of its docstring."""
    return (check.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("``", "")


def _raised(error: Exception, subject: Subject) -> str:
    """An error of the method's code, and the last line of its own file on the way to it."""
    module = sys.modules[type(subject.world.algorithm).__module__]
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if frame.filename == module.__file__), frames[-1])
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno}, in {last.name}). Mend that line."
