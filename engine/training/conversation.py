"""Conversations between methods and a trainer: a client's generator asks, the trainer answers.

Up to ``width`` clients' generators advance in lock-step, and their requests are handed over together: a trainer that
can answer several requests as one operation is given the chance.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar, get_args

import numpy as np

from strata.engine.data.dataset import ClientData, IntArray
from strata.engine.determinism import single_thread
from strata.engine.errors import ConformanceError, StrataError, TrainingError
from strata.engine.method.requests import Answer, Gradient, Request, Train, Work
from strata.engine.seeding import derive
from strata.engine.training.trainer import Asked, Broken, Trainer

R = TypeVar("R")

*_OTHERS, _LAST = (kind.__name__ for kind in get_args(Request))
REQUESTS = f"{', '.join(_OTHERS)} or {_LAST}"
"""What a method may ask for, in words."""


@dataclass
class Conversation(Generic[R]):
    """A method's generator and what its requests are about; each request's seed derives from the call's."""

    steps: Generator[Request, Answer | None, R]
    rows: ClientData
    seed: int
    where: str
    work: Work = field(default_factory=Work)
    requests: int = 0

    def next(self, answer: Answer | None) -> Asked:
        """Send an answer (None to begin), and get the next request.

        Raises:
            StopIteration: at the end, with what the generator returned.
            ConformanceError: when it asks for something else than a request.
            TrainingError: when it asks for rows that the client does not have.
        """
        request = self.steps.send(answer)
        if not isinstance(request, Request):
            raise ConformanceError(f"{self.where}: asked for a {type(request).__name__}; expected {REQUESTS}.")
        seed = derive(self.seed, "request", self.requests)
        self.requests += 1
        return Asked(request, _rows_of(self.rows, request, self.where), seed, self.where, self.work)


def _rows_of(held: ClientData, request: Request, where: str) -> IntArray:
    """The rows (n,) that a request is about: training rows to learn from, else those of the split that it names.

    Where there are no validation rows, the training rows stand in.
    """
    if isinstance(request, Gradient):
        return _chosen(held.train, request.rows, where)
    split = "train" if isinstance(request, Train) else request.split
    if split == "validation" and not len(held.validation):
        return held.train
    rows: IntArray = getattr(held, split)
    return rows


def _chosen(held: IntArray, rows: Sequence[int] | None, where: str) -> IntArray:
    """Those of a client's rows that are at some places among them; None: all."""
    if rows is None:
        return held
    places = np.asarray(rows) if len(rows) else np.zeros(0, np.int64)
    whole = places.ndim == 1 and places.dtype.kind in "iu"
    if not whole or (len(places) and not (places.min() >= 0 and places.max() < len(held))):
        raise TrainingError(
            f"{where}: rows={rows!r:.60}: expected numbers from 0 to {len(held) - 1}, of the client's {len(held)} "
            "training samples (info.train_samples)."
        )
    chosen: IntArray = held[places]
    return chosen


def converse(
    trainer: Trainer, conversations: Iterable[Conversation[R]], width: int = 1
) -> Iterator[tuple[R | Broken, Work]]:
    """Lead conversations to their ends, ``width`` at a time.

    Conversations are taken from the iterable when their turn comes, so that it may make them one by one.

    Yields:
        What each generator returned, or what broke it, and the work counted; in the order of the conversations.
    """
    remaining = iter(conversations)
    while group := list(islice(remaining, width)):
        results = _together(trainer, group)
        yield from zip(results, [talk.work for talk in group], strict=True)


def _together(trainer: Trainer, group: Sequence[Conversation[R]]) -> list[R | Broken]:
    results: dict[int, R | Broken] = {}
    answers: dict[int, Answer | None] = dict.fromkeys(range(len(group)))
    with single_thread():
        while answers:
            asked: dict[int, Asked] = {}
            for index, answer in answers.items():
                try:
                    asked[index] = group[index].next(answer)
                except StopIteration as stop:
                    results[index] = stop.value
                except StrataError as error:
                    results[index] = _broken(error, group[index].where)
            answers = {}
            for index, made in zip(asked, _answers(trainer, list(asked.values())), strict=True):
                if isinstance(made, Broken):
                    results[index] = made
                else:
                    answers[index] = made
    return [results[index] for index in range(len(group))]


def _answers(trainer: Trainer, asked: Sequence[Asked]) -> Sequence[Answer | Broken]:
    """What the trainer answers, each error with its client; one that is raised has broken all requests alike."""
    try:
        answers = trainer.answer(asked)
    except StrataError as error:
        others = f" (and {len(asked) - 1} more together with it)" if len(asked) > 1 else ""
        return [_broken(error, f"{asked[0].where}{others}")] * len(asked)
    return [
        _broken(made.error, one.where) if isinstance(made, Broken) else made
        for one, made in zip(asked, answers, strict=True)
    ]


def _broken(error: StrataError, where: str) -> Broken:
    """A conversation ended by an error, whose message says where, as most do already."""
    if where not in str(error):
        error.args = (f"{where}: {error}",)
    return Broken(error)


def drive(trainer: Trainer, conversation: Conversation[R]) -> tuple[R, Work]:
    """Lead a single conversation to its end; gives what its generator returned, and the work counted.

    Raises:
        StrataError: what broke it.
    """
    ((result, work),) = converse(trainer, [conversation])
    if isinstance(result, Broken):
        raise result.error
    return result, work
