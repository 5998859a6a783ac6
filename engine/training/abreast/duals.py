"""The training of many linear models at once, by coefficients of their clients' own samples: the dual form.

What a step of plain descent adds to a linear model is a combination of its batch's inputs. After any number of steps
its weights W (K, D) therefore are

    W = a W_0 + Σ_j b_j P_j + C X

with the client's samples X (n, D), a number a, one b_j for each proximal pull, to P_j, and coefficients C (K, n). With
the inner products G = X Xᵀ, which are the same in every call, the logits of its samples are

    W Xᵀ = a W_0 Xᵀ + Σ_j b_j P_j Xᵀ + C G,

so that a step works on as many numbers as the client has samples, and weights are needed at the beginning and at the
end alone (the representer theorem; Schölkopf and Smola, *Learning with Kernels*, 2002, section 4.2). It
equals the primal form but for rounding.

# N lanes, Q samples to which a client's are filled up, P rows of a filled batch, K classes, D inputs
"""

import operator
from collections.abc import Hashable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from cachetools import LRUCache
from torch import Tensor, nn

from strata.engine.data.dataset import IntArray
from strata.engine.determinism import single_thread
from strata.engine.method.losses import cross_entropy, task_loss
from strata.engine.method.requests import Sgd, Train
from strata.engine.models.base import Buildable, FeatureModel
from strata.engine.params import Params
from strata.engine.training.abreast.coefficients import Own, Way, at_home, logits_of, params_of, walked
from strata.engine.training.abreast.descents import Descended, FloatArray, beside, ended, joined
from strata.engine.training.abreast.threads import Threads
from strata.engine.training.batches import GATHERED_BYTES, Fetch, Rows, step_sizes
from strata.engine.training.lanes import lay, padded
from strata.engine.training.modules import MODULES_KEPT, Modules

KEPT_BYTES = 256 * 2**20
"""Inner products of clients' samples that are kept, those that were used last, at most."""

AS_FLOPS = 50
"""What a step takes for each inner product that it sees, in FLOPs of larger products: it gathers them first."""

WORTH_SEEN = 2
"""How often a request sees its client's samples, on average, so that the dual form costs less."""

LOSSES = (task_loss, cross_entropy)
"""What can be trained so: of classes both are the cross-entropy of the logits."""

AROUND = (FeatureModel, nn.Sequential, nn.Flatten, nn.Identity)
"""What a linear model may be made of beside its one layer."""


class Duals:
    """Trains linear models in their dual form, where that is asked for and costs less."""

    def __init__(self, modules: Modules, rows: Rows, threads: Threads, wanted: bool) -> None:
        """``modules``, ``rows`` and ``threads`` of the trainer; ``wanted``: whether to do so at all."""
        self._modules, self._rows, self._threads, self._wanted = modules, rows, threads, wanted
        self._kept: LRUCache[tuple[bool, bytes], Own] = LRUCache(KEPT_BYTES, lambda own: own.nbytes)
        self._last: tuple[Sequence[Own], tuple[Tensor, Tensor, Tensor]] | None = None
        self._layers: LRUCache[Buildable, tuple[str, nn.Linear] | None] = LRUCache(MODULES_KEPT)

    def width(self, request: Train, n: int) -> int:
        """To how many samples a client's ``n`` are filled up where its request is answered so; 0: it is not.

        It is where a model is one linear layer, plain descent moves all of it, the client has no more samples than the
        layer has inputs, and the request sees them :data:`WORTH_SEEN` times.
        """
        if not self._wanted or not _is_plain(request):
            return 0
        layer = self._layer(request.model)
        if layer is None or n > layer[1].in_features or any(set(request.start) - set(pull.to) for pull in request.pull):
            return 0
        seen = sum(size * count for size, count in step_sizes(n, request).items())
        return filled(n, layer[1].in_features) if seen >= WORTH_SEEN * n else 0

    def key(self, request: Train, n: int) -> Hashable:
        """Requests with equal keys, and else alike, are answered together; ``n``: samples of the client."""
        samples = self.width(request, n)
        return samples, at_home(request) if samples else ()

    def descend(
        self, requests: Sequence[Train], rows: Sequence[IntArray], plans: Sequence[Sequence[IntArray]], samples: int
    ) -> Descended:
        """Train clients side by side.

        Args:
            requests: one a lane, of equal :meth:`key`.
            rows: of each lane, ``(n,)``.
            plans: positions among these that each step of a lane sees; lanes with more steps come first.
            samples: to which each lane's are filled up.
        """
        first, names = requests[0], self._names(requests[0])
        width = padded(len(rows[0]), first.batch_size)
        lanes = lay(_Positions(rows, self._rows.device), rows, plans, width)
        owned = [self._owned(request, own, samples) for request, own in zip(requests, rows, strict=True)]
        x, products, y = self._stacked(owned)
        way = Way.of(first)
        points, shares = way.points(requests, self._rows.device), way.shares(lanes.steps[0])
        last, classes = [shares[steps] for steps in lanes.steps], points[0][names[0]].shape[1]

        def begun(block: slice) -> list[Tensor]:
            return [logits_of(point, names, x[block]) for point in _those(points, block)]

        def stepped(block: slice) -> tuple[Tensor, FloatArray]:
            return walked(products[block], y[block], lanes.part(block), [z[block] for z in held], shares, way)

        def done(block: slice) -> Descended:
            made = params_of(_those(points, block), names, last[block], coefficients[block], x[block])
            return ended(made, losses[:, block])

        each = self._blocks(len(requests), 1, 2 * classes * x[0].numel())
        held = [torch.cat(parts) for parts in zip(*self._threads.map(begun, each), strict=True)]
        steps = self._blocks(len(requests), 4 * width * samples, AS_FLOPS * width * samples)
        parts = self._threads.map(stepped, steps)
        coefficients, losses = torch.cat([part for part, _ in parts]), beside([losses for _, losses in parts])
        return joined(self._threads.map(done, each))

    def _blocks(self, lanes: int, input_bytes: int, flops: int) -> list[slice]:
        """The blocks in which lanes are computed, of which each sees so many bytes and takes so many FLOPs."""
        if self._rows.device.type != "cpu":
            return [slice(0, lanes)]
        return self._threads.blocks(lanes, input_bytes, lambda: flops)

    def _owned(self, request: Train, rows: IntArray, samples: int) -> Own:
        """The samples of a client that holds ``rows`` (n,)."""
        key = len(request.start) > 1, rows.tobytes()
        if key in self._kept:
            return self._kept[key]
        x, y = self._rows.lying(rows)
        flat, beyond = x.flatten(1), samples - len(rows)
        with single_thread():  # or sums might rest on the machine's cores
            products = flat @ flat.T + float(len(request.start) > 1)
        longer = np.concatenate([rows, np.repeat(rows[:1], beyond)])
        own = Own(longer, F.pad(y, (0, beyond)), F.pad(products, (0, beyond, 0, beyond)))
        if own.nbytes <= KEPT_BYTES:
            self._kept[key] = own
        return own

    def _stacked(self, owned: Sequence[Own]) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (N, Q, D), inner products (N, Q, Q) and classes (N, Q) of lanes.

        Those of the last call are kept unless they are large: the next one's are often the same.
        """
        if self._last is not None and _are(self._last[0], owned):
            return self._last[1]
        self._last = None  # or there would be room for two
        products, y = torch.stack([own.products for own in owned]), torch.stack([own.y for own in owned])
        x, _ = self._rows.lying(np.concatenate([own.rows for own in owned]))
        held = x.reshape(*y.shape, -1), products, y
        self._last = (owned, held) if x.nbytes <= GATHERED_BYTES else None
        return held

    def _names(self, request: Train) -> tuple[str, str]:
        layer = self._layer(request.model)
        assert layer is not None
        return _parts(layer[0])

    def _layer(self, model: Buildable) -> tuple[str, nn.Linear] | None:
        if model not in self._layers:
            self._layers[model] = linear(self._modules.bare(model))
        return self._layers[model]


def _are(some: Sequence[object], others: Sequence[object]) -> bool:
    """Whether all are the same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _those(points: Sequence[Params], block: slice) -> list[Params]:
    """Some lanes of points."""
    return [{name: value[block] for name, value in point.items()} for point in points]


class _Positions:
    """Stands for the rows of a data set where what a step sees are positions among a client's own."""

    def __init__(self, of: Sequence[IntArray], device: torch.device) -> None:
        self._of, self.device = of, device

    def numbered(self, rows: IntArray, seen: int) -> tuple[IntArray, Fetch]:
        """The positions, in the order of ``rows``; nothing is fetched by them."""
        return np.concatenate([np.arange(len(own)) for own in self._of]), _nothing


def filled(n: int, most: int) -> int:
    """Samples to which a client's ``n`` are filled up: a quarter of a power of two, or the ``most`` there may be.

    It rests on this client alone, as what :func:`~strata.engine.training.lanes.padded` gives.
    """
    quarter = max(1, padded(n, most) // 8)
    return min(most, -(-n // quarter) * quarter)


def _nothing(places: Tensor) -> tuple[Tensor, Tensor]:
    return places, places


def linear(module: nn.Module) -> tuple[str, nn.Linear] | None:
    """The one layer of a linear model, with its name in it; None: the model is another one.

    Types are compared as they are: what a class of one's own makes of a layer, nobody can tell.
    """
    layers = [(name, part) for name, part in module.named_modules() if type(part) is nn.Linear]
    others = [part for part in module.modules() if type(part) is not nn.Linear]
    if len(layers) != 1 or any(type(part) not in AROUND for part in others):
        return None
    name, layer = layers[0]
    weight, bias = _parts(name)
    found = dict(module.named_parameters())
    moves = all(value.requires_grad for value in found.values()) and not dict(module.named_buffers())
    is_plain = found.keys() == ({weight} if layer.bias is None else {weight, bias})
    flat = all(part.start_dim == 1 and part.end_dim == -1 for part in others if isinstance(part, nn.Flatten))
    return (name, layer) if moves and is_plain and flat else None


def _parts(layer: str) -> tuple[str, str]:
    """The names of weight and bias of a layer of this name, which is empty where it is the whole model."""
    prefix = f"{layer}." if layer else ""
    return f"{prefix}weight", f"{prefix}bias"


def _is_plain(request: Train) -> bool:
    """Whether a request asks for nothing but descent along the loss, pulls and decay, of the whole model."""
    chosen = request.optimizer
    more = request.constants or request.correction or request.clip_norm or request.schedule or request.look_ahead
    everything = request.trainable is None or request.trainable >= set(request.start)
    return isinstance(chosen, Sgd) and not chosen.momentum and not more and everything and request.loss in LOSSES
