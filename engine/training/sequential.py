"""The trainer that answers requests one after the other: the plain loop over minibatches.

It draws the batches, counts FLOPs and samples, and refuses losses that are not finite.

# B batch, n samples of one client, F features, K classes
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.determinism import torch_scope
from strata.engine.errors import StrataError, TrainingError
from strata.engine.evaluation.counts import pairs_of
from strata.engine.evaluation.measures import evaluated, further
from strata.engine.method.losses import Batch, sample_losses
from strata.engine.method.requests import (
    AdamW,
    Answer,
    Evaluate,
    Evaluation,
    Gradient,
    MeanGradient,
    Pull,
    Recalibrate,
    Recalibrated,
    Represent,
    Represented,
    Sgd,
    Train,
    Trained,
    Work,
)
from strata.engine.models.base import features_of
from strata.engine.params import Params
from strata.engine.training.batches import AHEAD, GATHER_SAMPLES, GRADIENT_ROWS, Rows, calibration_batches, plan_batches
from strata.engine.training.descent import Corrections, Descent, Foreign, LookAhead, Pulls
from strata.engine.training.flops import COUNTS, select_trainable, set_modes
from strata.engine.training.modules import Modules, averaging, slots
from strata.engine.training.replay.pooling import quickened
from strata.engine.training.trainer import Asked, Broken, are_finite, differentiated, out_of_memory, trained

ONE_VALUE = "Expected more than 1 value per channel"
"""What torch's batch norm says of a batch of one sample."""


class Sequential:
    """A :class:`~strata.engine.training.trainer.Trainer` for the clients of one process.

    A loss or a trained parameter that is not finite breaks the request.
    """

    def __init__(self, dataset: Dataset, device: str = "cpu", evaluation_batch: int = 1024) -> None:
        """``device``: where models and data live; ``evaluation_batch``: samples per forward pass of an evaluation."""
        self._device = torch.device(device)
        self._rows = Rows(dataset, self._device)
        self._evaluation_batch, self._classes = evaluation_batch, dataset.classes
        self._one_class = dataset.one_class
        self._modules, self._flops = Modules(self._device, quickened), COUNTS

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Broken]:
        """Answer one request after the other; one that breaks does not keep the others from being answered."""
        return [self._answer(one) for one in asked]

    def _answer(self, asked: Asked) -> Answer | Broken:
        try:
            return self._made(asked)
        except StrataError as error:
            return Broken(error)
        except torch.cuda.OutOfMemoryError as error:
            return Broken(out_of_memory(error, asked.where))
        except ValueError as error:
            if ONE_VALUE not in str(error):
                raise
            return Broken(_one_sample(asked.where))

    def _made(self, asked: Asked) -> Answer:
        request, rows = asked.request, asked.rows
        if isinstance(request, Train):
            return self._train(request, rows, asked.seed, asked.work, asked.where)
        if isinstance(request, Gradient):
            return self._differentiate(request, rows, asked.work, asked.where)
        if isinstance(request, Represent):
            return self._represent(request, rows, asked.work)
        if isinstance(request, Recalibrate):
            return self._recalibrate(request, rows, asked.seed, asked.work)
        return self._evaluate(request, rows, asked.where)

    def _train(self, request: Train, rows: IntArray, seed: int, work: Work, where: str) -> Trained:
        module = self._modules.load(request.model, request.start)
        set_modes(module, request.frozen)
        trainable = select_trainable(module, request.trainable)
        values = list(trainable.values())
        chosen = request.optimizer
        descent = Descent(chosen, values) if isinstance(chosen, Sgd | AdamW) else Foreign(chosen, values)
        pulls = Pulls([self._pull(pull, trainable) for pull in request.pull])
        corrections = self._corrections(request, trainable)
        constants = {name: tensor.to(self._device) for name, tensor in request.constants.items()}
        losses: list[Tensor] = []
        plan = plan_batches(len(rows), request, seed)
        ahead = self._ahead(request, rows, seed)

        def gradients(x: Tensor, y: Tensor) -> tuple[Sequence[Tensor | None], Tensor]:
            """Of a batch's mean loss, where the module is now; and each sample's loss."""
            batch = Batch(x, y, constants)
            work.flops += self._flops.step(request, batch)
            work.samples += len(y)
            losses_B = sample_losses(request.loss, module, batch)
            return torch.autograd.grad(batch.mean(losses_B), values, allow_unused=True), losses_B.detach()

        with torch_scope(seed):  # for dropout and whatever else a user's model draws
            for x, y in self._batches(request, rows, plan):
                if request.look_ahead:
                    with LookAhead(values, gradients(*next(ahead))[0], request.look_ahead):
                        found, losses_B = gradients(x, y)
                else:
                    found, losses_B = gradients(x, y)
                factor = request.schedule(len(losses), len(plan)) if request.schedule else 1.0
                descent.step(corrections.added(pulls.added(found)), factor)
                losses.append(losses_B.sum(dtype=torch.float64) / len(y))
        params = _take(module, request.start)
        means = torch.stack(losses).cpu().numpy() if losses else np.zeros(0)
        infinite = [name for name, value in params.items() if not are_finite(value[None])[0]]
        return trained(params, infinite, means, work, where)

    def _pull(
        self, pull: Pull, trainable: Mapping[str, nn.Parameter]
    ) -> tuple[list[int], list[Tensor], list[Tensor], float]:
        names = [name for name in trainable if name in pull.to]
        places = [place for place, name in enumerate(trainable) if name in pull.to]
        return places, [trainable[n] for n in names], [pull.to[n].to(self._device) for n in names], pull.strength

    def _corrections(self, request: Train, trainable: Mapping[str, nn.Parameter]) -> Corrections:
        places = [place for place, name in enumerate(trainable) if name in request.correction]
        values = [request.correction[name].to(self._device) for name in trainable if name in request.correction]
        return Corrections(places, values, request.clip_norm, lanes=False)

    def _batches(self, request: Train, rows: IntArray, plan: Sequence[IntArray]) -> Iterator[tuple[Tensor, Tensor]]:
        per_fetch = max(1, GATHER_SAMPLES // request.batch_size)
        for first in range(0, len(plan), per_fetch):
            chunk = plan[first : first + per_fetch]
            x, y = self._rows.fetch(rows[np.concatenate(chunk)])
            sizes = [len(part) for part in chunk]
            yield from zip(x.split(sizes), y.split(sizes), strict=True)

    def _ahead(self, request: Train, rows: IntArray, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first batch of each step that looks ahead; nothing for plain steps."""
        plan = plan_batches(len(rows), request, seed, AHEAD) if request.look_ahead else []
        return self._batches(request, rows, plan)

    def _differentiate(self, request: Gradient, rows: IntArray, work: Work, where: str) -> MeanGradient:
        module = self._modules.load(request.model, request.params).eval()
        trainable = select_trainable(module, request.trainable)
        sums = {name: torch.zeros_like(value) for name, value in trainable.items()}
        constants = {name: tensor.to(self._device) for name, tensor in request.constants.items()}
        total = 0.0
        for x, y in self._in_order(rows, GRADIENT_ROWS):
            batch = Batch(x, y, constants)
            work.flops += self._flops.step(request, batch)
            work.samples += len(y)
            losses_B = sample_losses(request.loss, module, batch)
            found = torch.autograd.grad(batch.mean(losses_B), list(trainable.values()), allow_unused=True)
            for name, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    sums[name].add_(gradient, alpha=len(y) / len(rows))
            total += float(losses_B.detach().sum(dtype=torch.float64))
        return differentiated({name: value.cpu() for name, value in sums.items()}, total, len(rows), where)

    def _represent(self, request: Represent, rows: IntArray, work: Work) -> Represented:
        features = features_of(self._modules.load(request.model, request.params).eval())
        sums: Tensor | None = None  # (K, F), in float64: the order of the batches must not show
        counts = torch.zeros(self._classes, dtype=torch.int64, device=self._device)
        with torch.inference_mode():
            for x, y in self._in_order(rows, self._evaluation_batch):
                values = features(x).to(torch.float64)
                held = F.one_hot(y, self._classes)
                added = held.T.to(torch.float64) @ values
                sums = added if sums is None else sums + added
                counts += held.sum(0)
                work.flops += self._flops.features(request.model, x)
        if sums is None:
            raise ValueError(f"no {request.split} samples to represent")
        classes = counts.nonzero().squeeze(1)
        means = (sums[classes] / counts[classes].unsqueeze(1)).to(torch.float32)
        return Represented(classes.cpu(), means.cpu(), counts[classes].cpu())

    def _in_order(self, rows: IntArray, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(rows), size):
            yield self._rows.fetch(rows[first : first + size])

    def _recalibrate(self, request: Recalibrate, rows: IntArray, seed: int, work: Work) -> Recalibrated:
        plan = calibration_batches(len(rows), request, seed)
        if not plan:
            return Recalibrated(request.params)
        module = self._modules.load(request.model, request.params).eval()
        with averaging(module), torch_scope(seed), torch.inference_mode():
            for positions in plan:
                x, _ = self._rows.fetch(rows[positions])
                work.flops += self._flops.forward(request.model, x)
                module(x)
        return Recalibrated(_take(module, request.params))

    def _evaluate(self, request: Evaluate, rows: IntArray, where: str) -> Evaluation:
        module = self._modules.load(request.model, request.params).eval()
        correct, loss_sum, pairs = 0, 0.0, []
        kept: list[tuple[Tensor, Tensor]] = []  # outputs and targets, where something is made of all at once
        with torch.inference_mode():
            for x, y in self._in_order(rows, self._evaluation_batch):
                logits = module(x)
                if request.further or not self._one_class:
                    kept.append((logits, y))
                if not self._one_class:
                    continue
                correct += int((logits.argmax(1) == y).sum())
                if request.pairs:
                    pairs.append(torch.stack([y, logits.argmax(1)]).cpu().numpy())
                loss_sum += float(F.cross_entropy(logits, y, reduction="none").sum(dtype=torch.float64))
        if not kept:
            return Evaluation(correct, len(rows), loss_sum, pairs_of(pairs))
        outputs, targets = (torch.cat(parts) for parts in zip(*kept, strict=True))
        if not self._one_class:
            return evaluated(request, outputs, targets, where)
        more = further(request, outputs, targets, where)
        return Evaluation(correct, len(rows), loss_sum, pairs_of(pairs), further=more)


def _take(module: nn.Module, like: Params) -> Params:
    held = slots(module)
    return {name: held[name].detach().to("cpu", copy=True) for name in like}


def _one_sample(where: str) -> TrainingError:
    return TrainingError(
        f"{where}: a batch has a single sample, of which batch norm takes no statistics: expected two at least. Choose "
        "another method.batch_size, so that none is left over, or a model without batch norm."
    )
