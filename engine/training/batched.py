"""The trainer that answers requests of several clients as one operation over stacked parameters.

A client's bits do not depend on who is beside it: batches are filled up to a width that rests on the client alone, a
lone client is computed twice, and whether a request goes together with others is decided by the request, never by the
company. What cannot go together is answered by :class:`~strata.engine.training.sequential.Sequential`, and counted.

# N lanes, S steps, P rows of a filled batch, K classes
"""

from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strata.engine.data.dataset import Dataset
from strata.engine.errors import TrainingError
from strata.engine.method.losses import Batch
from strata.engine.method.requests import Answer, Evaluate, Evaluation, Request, Train, Trained
from strata.engine.params import Params
from strata.engine.training.batches import Rows, batch_sizes, plan_batches
from strata.engine.training.flops import FlopCounts, select_trainable, set_modes
from strata.engine.training.lanes import LEAST, SHRINK, Lanes, lay, means, padded
from strata.engine.training.modules import Modules, require_all, slots
from strata.engine.training.outcomes import out_of_memory, trained
from strata.engine.training.sequential import Sequential
from strata.engine.training.stacked import Names, Operations, StackedOptimizer, gradients, logits
from strata.engine.training.together import Togetherness, shapes_of
from strata.engine.training.trainer import Asked, Broken

GATHER_BYTES = 256 * 2**20
"""Inputs that are gathered at once, as float32: a cohort with more is answered in several parts."""

Answered = Answer | Broken


class Batched:
    """A :class:`~strata.engine.training.trainer.Trainer` that answers what fits together as one operation."""

    def __init__(self, dataset: Dataset, device: str = "cpu", evaluation_batch: int = 1024) -> None:
        """``device``: where models and data live; ``evaluation_batch``: samples per forward pass of an evaluation."""
        self._device = torch.device(device)
        self._rows, self._flops = Rows(dataset, self._device), FlopCounts()
        self._modules, self._operations = Modules(self._device), Operations()
        self._sequential = Sequential(dataset, device, evaluation_batch)
        self._evaluation_batch = evaluation_batch
        self._together = Togetherness(self._modules, dataset.classes)
        self._row_bytes = 4 * max(1, dataset.x[0].size if len(dataset.x) else 1)

    def answer(self, asked: Sequence[Asked]) -> list[Answered]:
        """Answer what fits together at once, and the rest one by one."""
        groups: dict[Hashable, list[int]] = {}
        answers: dict[int, Answered] = {}
        for place, one in enumerate(asked):
            reason = self._together.why_not(one, self._rows)
            if reason:
                one.work.singly[reason] = one.work.singly.get(reason, 0) + 1
                (answers[place],) = self._sequential.answer([one])
            else:
                groups.setdefault(self._key(one), []).append(place)
        for places in groups.values():
            for part in self._parts(places, asked):
                answers.update(zip(part, self._guarded([asked[place] for place in part]), strict=True))
        return [answers[place] for place in range(len(asked))]

    def _key(self, one: Asked) -> Hashable:
        """Requests with equal keys are answered together."""
        request, n = one.request, len(one.rows)
        if isinstance(request, Train):
            pulls = tuple((tuple(pull.to), pull.strength) for pull in request.pull)
            same = (request.optimizer, request.batch_size, pulls, padded(n, request.batch_size))
            return request.model, request.loss, request.trainable, request.frozen, shapes_of(request), same
        assert isinstance(request, Evaluate)
        return request.model, tuple(request.params), padded(n, self._evaluation_batch)

    def _parts(self, places: Sequence[int], asked: Sequence[Asked]) -> Iterable[list[int]]:
        """The places of a group in parts whose data may be gathered at once."""
        part: list[int] = []
        held = 0
        for place in places:
            size = len(asked[place].rows) * self._row_bytes
            if part and held + size > GATHER_BYTES:
                yield part
                part, held = [], 0
            part.append(place)
            held += size
        yield part

    def _guarded(self, group: Sequence[Asked]) -> list[Answered]:
        try:
            if isinstance(group[0].request, Train):
                return self._train(group)
            return self._evaluate(group)
        except torch.cuda.OutOfMemoryError as error:
            first, last = group[0].where, group[-1].where
            return [Broken(out_of_memory(error, f"{first} to {last}, {len(group)} together"))] * len(group)

    def _train(self, group: Sequence[Asked]) -> list[Answered]:
        plans = [plan_batches(len(one.rows), _train(one), one.seed) for one in group]
        order = sorted(range(len(group)), key=lambda place: -len(plans[place]))
        chosen = _at_least(order)
        ordered = [group[place] for place in chosen]
        width = padded(len(group[0].rows), _train(group[0]).batch_size)
        lanes = lay(self._rows, [one.rows for one in ordered], [plans[place] for place in chosen], width)
        held, losses_SN = self._descend([_train(one) for one in ordered], lanes)
        answers: dict[int, Answered] = {}
        for lane, place in enumerate(order):
            one = group[place]
            self._count(one, lanes)
            params = {name: held[name][lane].to("cpu", copy=True) for name in _train(one).start}
            try:
                answers[place] = trained(params, losses_SN[: lanes.steps[lane], lane], one.work, one.where)
            except TrainingError as error:
                answers[place] = Broken(error)
        return [answers[place] for place in range(len(group))]

    def _count(self, one: Asked, lanes: Lanes) -> None:
        """Add a client's samples and FLOPs to its work."""
        request = _train(one)
        for size, count in batch_sizes(len(one.rows), request).items():
            batch = Batch(lanes.x[:size], lanes.y[:size], request.constants)
            one.work.flops += count * self._flops.step(request, batch)
            one.work.samples += count * size

    def _descend(self, requests: Sequence[Train], lanes: Lanes) -> tuple[Params, object]:
        """Train; gives the parameters ``(N, ...)`` by name after each lane's last step, and the losses ``(S, N)``."""
        first = requests[0]
        module = self._modules.bare(first.model)
        set_modes(module, first.frozen)
        held = {name: self._stack(request.start[name] for request in requests) for name in slots(module)}
        moving = self._together.moving(first)
        names = Names(moving, tuple(name for name in held if name not in moving), tuple(first.constants))
        constants = [self._stack(request.constants[name] for request in requests) for name in names.constants]
        values = [held[name] for name in moving]
        tensors = [*values, *(held[name] for name in names.still), *constants]
        pulls = [self._pull(requests, number, moving) for number in range(len(first.pull))]
        optimizer = StackedOptimizer(first.optimizer, values)
        key = (first.model, first.loss, first.frozen, names)
        losses: list[Tensor] = []
        width = active = 0
        with torch.no_grad():
            for step, alive in enumerate(lanes.active):
                if alive != active:
                    if not width or alive <= SHRINK * width:
                        width = max(alive, LEAST)
                        operands = [tensor[:width] for tensor in tensors]
                    active = alive
                    optimizer.narrow(active)
                    near = [([values[i][:active] for i in which], [to[:active] for to in towards], strength)
                            for which, towards, strength in pulls]
                batch = lanes.batch(step, width)
                operation = self._operations.get(key, lambda: gradients(module, first.loss, names), [*batch, *operands])
                *found, rows = operation(*batch, *operands)
                grads = list(found) if active == width else [one[:active] for one in found]
                optimizer.step(grads)
                losses.append(rows)
        return held, means(losses, lanes.weights)
