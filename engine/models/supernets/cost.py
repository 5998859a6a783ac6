"""What an architecture will cost, before it is trained.

The parts of a network are traced one by one on the meta device, where nothing is computed, and remembered: a space has
far fewer distinct parts than architectures, so most answers are sums. What a part costs grows by as much with each
sample of a batch, so three batch sizes are traced as a rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from strata.engine.determinism import torch_scope
from strata.engine.models.base import Shape
from strata.engine.models.flop_counter import FlopCounter
from strata.engine.models.lines import on_line
from strata.engine.models.supernets.plan import Part, body
from strata.engine.models.supernets.subnet import SubnetSpec, head

BYTES = 4  # of a float32
ROOMY = 0.75
"""Share of a memory budget below which a batch is doubled [PerFedRLNAS]."""


@dataclass(frozen=True)
class Cost:
    """Costs of training one architecture at one batch size.

    Attributes:
        flops: of one training step, forward and backward, as the trainer counts them.
        parameters: number of trained values.
        activation_bytes: what the forward pass keeps for the backward pass.
        memory_bytes: weights and batch-norm statistics, gradients, optimiser state and activations. Kernels' scratch
            space and the framework itself come on top.
    """

    flops: int
    parameters: int
    activation_bytes: int
    memory_bytes: int


@lru_cache(maxsize=16384)
def cost(spec: SubnetSpec, batch: int, optimizer_values: int = 0) -> Cost:
    """Cost of one training step with cross-entropy.

    Args:
        spec: the architecture.
        batch: B, samples per step.
        optimizer_values: what the optimiser keeps per parameter: 0 for SGD, 1 with momentum, 2 for Adam and AdamW.
    """
    shape: Shape = (batch, *spec.input_shape)
    traces = []
    for name, part in body(spec.space, spec.values, spec.input_shape):
        traces.append(_trace(part, shape, name not in ("resize", "stem")))
        shape = (batch, *traces[-1].output_shape)
    traces.append(_trace(head(spec), shape, True, _loss))
    flops, parameters, statistics, activation_bytes = (
        sum(getattr(trace, what) for trace in traces)
        for what in ("flops", "parameters", "statistics", "activation_bytes")
    )
    kept = (2 + optimizer_values) * parameters + statistics
    return Cost(flops, parameters, activation_bytes, kept * BYTES + activation_bytes)


def fit(memory: Callable[[int], float], budget: float, start: int, least: int, most: int) -> int:
    """The batch size that fits a budget: from ``start`` on, halved while over it, doubled while below 75 % of it.

    Args:
        memory: bytes of a training step by its batch size.
        budget: bytes.
        start: the batch size to begin with.
        least: it is not halved below this.
        most: it is not doubled beyond this, nor where it would have to be halved again.

    Returns:
        The batch size; 0 where not even ``least`` fits.
    """
    batch = start
    while memory(batch) > budget:
        if batch == least:
            return 0
        batch = max(least, batch // 2)
    while 2 * batch <= most and memory(batch) < ROOMY * budget and memory(2 * batch) <= budget:
        batch *= 2
    return batch


@dataclass(frozen=True)
class _Trace:
    flops: int
    parameters: int
    statistics: int
    activation_bytes: int
    output_shape: Shape  # of one sample


GROWING = "flops", "activation_bytes"
"""What grows with the batch; the rest is of the part alone."""

Finish = Callable[[Tensor], Tensor]
"""What follows a part, e.g. the loss."""


def _nothing(output: Tensor) -> Tensor:
    return output


def _loss(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.empty(len(logits), dtype=torch.int64))


def _trace(part: Part, shape: Shape, input_gradient: bool, finish: Finish = _nothing) -> _Trace:
    batch, *sample = shape
    known = _known(part, tuple(sample), input_gradient, finish)
    if batch not in known:
        known[batch] = on_line(known, batch, *GROWING) or _traced(part, shape, input_gradient, finish)
    return known[batch]


@lru_cache(maxsize=4096)
def _known(part: Part, sample: Shape, input_gradient: bool, finish: Finish) -> dict[int, _Trace]:
    """What is known of a part on samples of a shape, by the batch size."""
    return {}


def _traced(part: Part, shape: Shape, input_gradient: bool, finish: Finish) -> _Trace:
    """A training step of one part on inputs of a shape (batch included)."""
    with torch_scope(0), torch.device("meta"), FlopCounter() as counter:
        module = part.build().train()
        x = torch.empty(shape, requires_grad=input_gradient)
        output, activation_bytes = _forward(module, x, finish)
        if output.requires_grad:
            output.sum().backward()
    parameters = sum(parameter.numel() for parameter in module.parameters())
    statistics = sum(buffer.numel() for buffer in module.buffers() if buffer.is_floating_point())
    return _Trace(counter.get_total_flops(), parameters, statistics, activation_bytes, tuple(output.shape[1:]))


def _forward(module: nn.Module, x: Tensor, finish: Finish) -> tuple[Tensor, int]:
    """The output, and the bytes of the distinct memory, weights aside, that its graph holds on to."""
    own = {_memory(value) for value in (*module.parameters(), *module.buffers())}
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = finish(module(x))
    sizes = {_memory(tensor): tensor.untyped_storage().nbytes() for tensor in saved}
    return output, sum(size for memory, size in sizes.items() if memory not in own)


def _memory(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata  # there is no data to point to on the meta device
    return address
