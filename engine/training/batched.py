"""The trainer that answers requests of several clients as one operation over stacked parameters.

A client's bits do not depend on who is beside it: batches are filled up to a width that rests on the client alone, a
lone client is computed twice, and whether a request goes together with others is decided by the request, never by the
company. What cannot go together is answered by :class:`~strata.engine.training.sequential.Sequential`, and counted.

# N lanes, S steps, P rows of a filled batch, K classes
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.errors import TrainingError
from strata.engine.evaluation.counts import paired, pairs_of
from strata.engine.evaluation.measures import evaluated, further
from strata.engine.method.losses import Batch
from strata.engine.method.requests import Answer, Evaluate, Evaluation, Gradient, Train
from strata.engine.params import Params
from strata.engine.training.abreast.descents import Descended, descend, joined
from strata.engine.training.abreast.duals import Duals
from strata.engine.training.abreast.slopes import mean_gradients
from strata.engine.training.abreast.threads import Threads
from strata.engine.training.batches import AHEAD, GRADIENT_ROWS, Rows, batch_sizes, gradient_sizes, plan_all, step_sizes
from strata.engine.training.flops import COUNTS, select_trainable, set_modes
from strata.engine.training.lanes import (
    LEAST,
    Lanes,
    at_least,
    in_order,
    lay,
    padded,
    side_by_side,
)
from strata.engine.training.modules import Modules, slots
from strata.engine.training.sequential import Sequential
from strata.engine.training.stacked import Network, Operations
from strata.engine.training.together import Togetherness, changes_of, kind_of
from strata.engine.training.trainer import (
    Asked,
    Broken,
    differentiated,
    ended,
    out_of_memory,
    refuse_infinite,
)

FloatArray = NDArray[np.float64]

PART_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}
"""Inputs and parameters that are held at once, as float32: a cohort with more is answered in several parts."""

COPIES = 4
"""How often the parameters are held: values, gradients, an optimiser's state, results."""

COSTS_KEPT = 4096
"""FLOPs and samples of requests that are kept, the last used ones; one is by kind, length and number of rows."""

Answered = Answer | Broken

Kept = list[tuple[Tensor, Tensor]]
"""Outputs and targets of an evaluation, where something is made of all of them at once."""


class Batched:
    """A :class:`~strata.engine.training.trainer.Trainer` that answers what fits together as one operation."""

    def __init__(self, dataset: Dataset, device: str = "cpu", evaluation_batch: int = 1024, dual: bool = False) -> None:
        """Start without models.

        Args:
            dataset: which everybody's rows are of.
            device: where models and data live.
            evaluation_batch: samples per forward pass of an evaluation.
            dual: train linear models in their dual form where :class:`~.duals.Duals` can.
        """
        self._device = torch.device(device)
        self._rows, self._flops = Rows(dataset, self._device), COUNTS
        self._modules, self._operations = Modules(self._device), Operations()
        self._sequential = Sequential(dataset, device, evaluation_batch)
        self._evaluation_batch, self._one_class = evaluation_batch, dataset.one_class
        self._costs: LRUCache[Hashable, tuple[int, int]] = LRUCache(COSTS_KEPT)
        self._together = Togetherness(self._modules, self._rows)
        self._threads = Threads(torch.get_num_threads() if self._device.type == "cpu" else 1)
        self._duals = Duals(self._modules, self._rows, self._threads, dual and dataset.has_classes)
        self._row_bytes = 4 * max(1, dataset.x[0].size if len(dataset.x) else 1)

    def answer(self, asked: Sequence[Asked]) -> list[Answered]:
        """Answer what fits together at once, and the rest one by one."""
        groups: dict[Hashable, list[int]] = {}
        answers: dict[int, Answered] = {}
        for place, one in enumerate(asked):
            kind = kind_of(one.request)
            reason = self._together.why_not(one, kind) if len(one.rows) else ""
            if reason:
                one.work.alone(reason)
            if reason or not len(one.rows):
                (answers[place],) = self._sequential.answer([one])
            else:
                groups.setdefault(self._key(one, kind), []).append(place)
        for places in groups.values():
            for part in self._parts(places, asked):
                answers.update(zip(part, self._guarded([asked[place] for place in part]), strict=True))
        return [answers[place] for place in range(len(asked))]

    def _key(self, one: Asked, kind: Hashable) -> Hashable:
        """Requests with equal keys are answered together; ``kind``: of this one."""
        request, n = one.request, len(one.rows)
        if isinstance(request, Evaluate):
            return kind, padded(n, self._evaluation_batch), request.pairs, request.further
        if isinstance(request, Gradient):
            return kind, padded(n, GRADIENT_ROWS)
        train = _train(one)
        steps = sum(step_sizes(n, train).values()) if train.schedule else 0  # on which the learning rate then rests
        widths = padded(n, train.batch_size), self._duals.key(train, n)
        return kind, train.optimizer, train.batch_size, changes_of(train), steps, widths

    def _parts(self, places: Sequence[int], asked: Sequence[Asked]) -> Iterable[list[int]]:
        """The places of a group in parts that may be held at once."""
        part: list[int] = []
        held = 0
        first = asked[places[0]]
        by_samples = self._duals.width(first.request, len(first.rows)) if isinstance(first.request, Train) else 0
        for place in places:
            one = asked[place]
            size = len(one.rows) * self._row_bytes + COPIES * sum(value.nbytes for value in _parameters(one).values())
            size += 4 * by_samples**2
            if part and held + size > PART_BYTES[self._device.type]:
                yield part
                part, held = [], 0
            part.append(place)
            held += size
        yield part

    def _guarded(self, group: Sequence[Asked]) -> list[Answered]:
        try:
            if isinstance(group[0].request, Train):
                return self._train(group)
            if isinstance(group[0].request, Gradient):
                return self._differentiate(group)
            return self._evaluate(group)
        except torch.cuda.OutOfMemoryError as error:
            first, last = group[0].where, group[-1].where
            return [Broken(out_of_memory(error, f"{first} to {last}, {len(group)} together"))] * len(group)

    def _train(self, group: Sequence[Asked]) -> list[Answered]:
        planned = [(len(one.rows), _train(one), one.seed) for one in group]
        plans, kind = plan_all(planned), kind_of(group[0].request)
        order = sorted(range(len(group)), key=lambda place: -len(plans[place]))
        if samples := self._duals.width(_train(group[0]), len(group[0].rows)):
            chosen = at_least(order)
            requests, rows = [_train(group[place]) for place in chosen], [group[place].rows for place in chosen]
            made = self._duals.descend(requests, rows, [plans[place] for place in chosen], samples)
        else:
            made = self._descended(group, planned, plans, order)
        steps_of = [len(plans[place]) for place in at_least(order)]
        totals, usual = _sums(made.losses, steps_of), np.all(np.isfinite(made.losses), 0).tolist()
        answers: dict[int, Answered] = {}
        for lane, place in enumerate(order):
            one, steps, infinite = group[place], steps_of[lane], made.infinite[lane]
            self._count(one, kind)
            try:
                if infinite or not usual[lane]:
                    refuse_infinite(made.losses[:steps, lane], infinite, one.where)
                answers[place] = ended(made.params[lane], steps, totals[lane], one.work)
            except TrainingError as error:
                answers[place] = Broken(error)
        return [answers[place] for place in range(len(group))]

    def _descended(
        self,
        group: Sequence[Asked],
        planned: Sequence[tuple[int, Train, int]],
        plans: Sequence[Sequence[IntArray]],
        order: list[int],
    ) -> Descended:
        """What training has come to for a group's clients in this order."""
        first = _train(group[0])
        width = padded(len(group[0].rows), first.batch_size)
        lanes = self._laid(group, plans, order, width)
        ahead = self._laid(group, plan_all(planned, AHEAD), order, width) if first.look_ahead else None
        module, moving = self._modules.bare(first.model), self._together.moving(group[0])
        set_modes(module, first.frozen)
        network, kind = Network(module, slots(module), self._operations, moving), kind_of(first)
        requests = [_train(group[place]) for place in at_least(order)]

        def descended(block: slice) -> Descended:
            return descend(requests[block], lanes.part(block), ahead and ahead.part(block), network)

        blocks = self._blocks(len(requests), width, lambda: self._cost(group[0], kind)[0] // lanes.steps[0])
        return joined(self._threads.map(descended, blocks))

    def _blocks(self, lanes: int, width: int, flops: Callable[[], int]) -> list[slice]:
        """The blocks in which lanes are computed; one on a GPU. A step sees ``width`` rows, and costs ``flops``."""
        on_cpu = self._device.type == "cpu"
        return self._threads.blocks(lanes, width * self._row_bytes, flops) if on_cpu else [slice(0, lanes)]

    def _laid(self, group: Sequence[Asked], plans: Sequence[Sequence[IntArray]], order: list[int], width: int) -> Lanes:
        """The lanes of a group's clients, in this order, which see what is planned for each."""
        chosen = at_least(order)
        return lay(self._rows, [group[place].rows for place in chosen], [plans[place] for place in chosen], width)

    def _count(self, one: Asked, kind: Hashable) -> None:
        """Add a client's samples and FLOPs to its work."""
        flops, samples = self._cost(one, kind)
        one.work.flops += flops
        one.work.samples += samples

    def _cost(self, one: Asked, kind: Hashable) -> tuple[int, int]:
        """FLOPs and samples of a request, counted once for a kind and clients of this one's length."""
        request, n = one.request, len(one.rows)
        assert isinstance(request, Train | Gradient)
        sizes = tuple((batch_sizes(n, request) if isinstance(request, Train) else gradient_sizes(n)).items())
        key = kind, sizes
        if key not in self._costs:
            flops = samples = 0
            for size, count in sizes:
                batch = Batch(*self._rows.fetch(one.rows[:size]), request.constants)
                flops += count * self._flops.step(request, batch)
                samples += count * size
            self._costs[key] = flops, samples
        return self._costs[key]

    def _differentiate(self, group: Sequence[Asked]) -> list[Answered]:
        width = padded(len(group[0].rows), GRADIENT_ROWS)
        plans = [in_order(len(one.rows), width) for one in group]
        order = sorted(range(len(group)), key=lambda place: -len(plans[place]))
        ordered, lanes = [group[place] for place in at_least(order)], self._laid(group, plans, order, width)
        request, kind = group[0].request, kind_of(group[0].request)
        module = self._modules.bare(request.model).eval()
        network = Network(module, slots(module), self._operations, self._together.moving(group[0]))
        wanted = tuple(select_trainable(module, _gradient(group[0]).trainable))

        def found(block: slice) -> list[tuple[Params, float]]:
            return mean_gradients(ordered[block], lanes.part(block), network, wanted)

        blocks = self._blocks(len(ordered), width, lambda: self._cost(group[0], kind)[0] // lanes.steps[0])
        made = list(chain.from_iterable(self._threads.map(found, blocks)))
        answers: dict[int, Answered] = {}
        for place, (gradient, total) in zip(order, made[: len(order)], strict=True):
            one = group[place]
            self._count(one, kind)
            try:
                answers[place] = differentiated(gradient, total, len(one.rows), one.where)
            except TrainingError as error:
                answers[place] = Broken(error)
        return [answers[place] for place in range(len(group))]

    def _evaluate(self, group: Sequence[Asked]) -> list[Answered]:
        width = padded(len(group[0].rows), self._evaluation_batch)
        plans = [in_order(len(one.rows), width) for one in group]
        order = sorted(range(len(group)), key=lambda place: -len(plans[place]))
        ordered, lanes = [group[place] for place in at_least(order)], self._laid(group, plans, order, width)
        module = self._modules.bare(group[0].request.model).eval()
        network = Network(module, slots(module), self._operations)
        blocks = self._blocks(len(ordered), width, lambda: self._forward_flops(group[0]) * width)
        counted = self._threads.map(lambda block: self._scored(ordered[block], lanes.part(block), network), blocks)
        made = list(chain.from_iterable(counted))[: len(order)]
        # One after the other: metrics of a user's own are none for several threads.
        answers = {place: self._completed(*one, group[place]) for place, one in zip(order, made, strict=True)}
        return [answers[place] for place in range(len(group))]

    def _forward_flops(self, one: Asked) -> int:
        """FLOPs of evaluating a row."""
        return self._flops.forward(one.request.model, self._rows.fetch(one.rows[:1])[0])

    def _scored(self, group: Sequence[Asked], lanes: Lanes, network: Network) -> list[tuple[Evaluation, Kept]]:
        """The evaluations of a block of lanes, in their order, with what is needed to complete them."""
        requests = [_evaluate(one) for one in group]
        held = side_by_side(network.held, [request.params for request in requests], self._device)
        correct, loss = np.zeros(len(group), np.int64), np.zeros(len(group))
        pairs: list[list[IntArray]] = [[] for _ in group]
        kept: list[Kept] = [[] for _ in group]
        with torch.no_grad():  # under inference mode other operations would be recorded than in training
            for step, alive in enumerate(lanes.active):
                lanes_now = max(alive, LEAST)
                x, y, weights = lanes.batch(step, lanes_now)
                operands = [x, *(value[:lanes_now] for value in held.values())]
                (found,) = network.logits(kind_of(requests[0]), operands)(*operands)
                counts = weights > 0
                if requests[0].further or not self._one_class:
                    for lane in range(alive):
                        kept[lane].append((found[lane][counts[lane]], y[lane][counts[lane]]))
                if not self._one_class:
                    continue
                losses = F.cross_entropy(found.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
                predicted = found.argmax(-1)
                right = (predicted == y) & counts
                correct[:alive] += right.sum(-1).cpu().numpy()[:alive]
                loss[:alive] += losses.to(torch.float64).masked_fill(~counts, 0.0).sum(-1).cpu().numpy()[:alive]
                if requests[0].pairs:
                    for lane, (own, used) in enumerate(zip(paired(y, predicted), counts.cpu().numpy(), strict=True)):
                        pairs[lane].append(own[:, used])
        return [
            (Evaluation(int(correct[lane]), len(one.rows), float(loss[lane]), pairs_of(pairs[lane])), kept[lane])
            for lane, one in enumerate(group)
        ]

    def _completed(self, count: Evaluation, kept: Kept, one: Asked) -> Answered:
        """An evaluation with what is made of all of a client's outputs and targets, where something is."""
        if not kept:
            return count
        outputs, targets = (torch.cat(parts) for parts in zip(*kept, strict=True))
        try:
            if not self._one_class:
                return evaluated(_evaluate(one), outputs, targets, one.where)
            return replace(count, further=further(_evaluate(one), outputs, targets, one.where))
        except TrainingError as error:
            return Broken(error)


def _parameters(one: Asked) -> Params:
    """What a request starts from, or evaluates."""
    return _train(one).start if isinstance(one.request, Train) else one.request.params


def _train(one: Asked) -> Train:
    assert isinstance(one.request, Train)
    return one.request


def _gradient(one: Asked) -> Gradient:
    assert isinstance(one.request, Gradient)
    return one.request


def _evaluate(one: Asked) -> Evaluate:
    assert isinstance(one.request, Evaluate)
    return one.request


def _sums(losses_SN: FloatArray, steps: Sequence[int]) -> list[float]:
    """The sum of each lane's losses, as numpy adds up those of a single client."""
    losses_NS = np.ascontiguousarray(losses_SN.T)
    if steps[-1] == steps[0]:
        sums: list[float] = losses_NS.sum(1).tolist()
        return sums
    return [float(losses[:count].sum()) for losses, count in zip(losses_NS, steps, strict=True)]
