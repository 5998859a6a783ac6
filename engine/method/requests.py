"""What a method asks of the trainer, and what it gets back. A method never loops over batches itself."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

from strata.engine.errors import TrainingError
from strata.engine.method.length import Length
from strata.engine.method.losses import Loss, task_loss
from strata.engine.models.base import Buildable
from strata.engine.params import Params

if TYPE_CHECKING:  # torch.optim takes seconds to import
    import torch


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent: learning rate, momentum, L2 weight decay."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), torch's betas and epsilon."""

    lr: float
    weight_decay: float = 0.01


class Made(Protocol):
    """An optimiser of one's own: a frozen dataclass, so that equal settings are equal, which makes torch's object."""

    def make(self, params: list[Tensor]) -> "torch.optim.Optimizer":
        """A fresh optimiser of these parameters; it is stepped once a minibatch, on their ``grad``."""


class Schedule(Protocol):
    """A learning rate that changes within a call: a frozen dataclass, or a function, of the step."""

    def __call__(self, step: int, steps: int, /) -> float:
        """By what the learning rate is multiplied in step ``step`` (from 0) of ``steps``."""


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to ``to`` at the last step (Loshchilov and Hutter, arXiv 1608.03983, one period)."""

    to: float = 0.0

    def __call__(self, step: int, steps: int) -> float:
        """The factor of a step."""
        return self.to + (1 - self.to) * (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2


@dataclass(frozen=True)
class Linear:
    """A straight line from ``first`` at the first step to ``last`` at the last one."""

    first: float = 1.0
    last: float = 0.0

    def __call__(self, step: int, steps: int) -> float:
        """The factor of a step."""
        return self.first + (self.last - self.first) * step / max(1, steps - 1)


@dataclass(frozen=True)
class Pull:
    """A proximal term ``strength/2 · ‖θ − to‖²``: adds ``strength · (θ − to)`` to the gradient of each step.

    Names missing in ``to`` are not pulled.
    """

    to: Params
    strength: float


@dataclass(frozen=True)
class Train:
    """Train a model on the client's own training data.

    Attributes:
        model: architecture; a :class:`~strata.engine.models.spec.Joint` trains several together.
        start: parameters to start from; not modified.
        optimizer: fresh for every request.
        batch_size: samples per step; a smaller client trains on all it has. An epoch's last batch may be smaller.
        length: in minibatch steps, or in epochs.
        repeat_batch: all steps see the same batch (the inner problem of a Moreau envelope).
        loss: see :data:`Loss`.
        trainable: names to update; None: all. The others keep their values.
        frozen: names of submodules that are in evaluation mode during the request: batch norm's statistics and dropout
            stand still in them. Whether their parameters move is for ``trainable`` to say.
        pull: proximal terms.
        constants: tensors the loss needs beside the batch, e.g. prototypes.
        correction: what is added to the gradient of each step, by parameter, beside pulls: SCAFFOLD's c − c_i
            (arXiv 1910.06378, algorithm 1). Names missing in it are not corrected.
        clip_norm: the L2 norm, over all trained parameters, to which a step's gradient with all that is added to it is
            scaled down if it is larger; 0: never.
        schedule: by what the learning rate is multiplied in each step; None: 1.
        look_ahead: α > 0: each step takes its gradient not at w but at θ = w − α ∇f(w; batch 1), on a batch 2 drawn
            apart (first-order MAML, as Per-FedAvg trains, arXiv 2002.07948). Pulls, ``correction``, ``clip_norm`` and
            ``schedule`` are of the step of w, whose loss is that of batch 2 at θ. Both batches are work.
    """

    model: Buildable
    start: Params
    optimizer: Sgd | AdamW | Made
    batch_size: int
    length: Length
    repeat_batch: bool = False
    loss: Loss = task_loss
    trainable: frozenset[str] | None = None
    frozen: tuple[str, ...] = ()
    pull: tuple[Pull, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    correction: Mapping[str, Tensor] = field(default_factory=dict)
    clip_norm: float = 0.0
    schedule: Schedule | None = None
    look_ahead: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a step that looks back.

        Raises:
            TrainingError: for a ``look_ahead`` below 0.
        """
        if not self.look_ahead >= 0:
            raise TrainingError(f"look_ahead={self.look_ahead}: expected a step size ≥ 0; 0 is a plain step.")


@dataclass(frozen=True)
class Trained:
    """Answer to :class:`Train`: new parameters, the mean of the steps' losses, and how many steps there were."""

    params: Params
    loss: float
    steps: int = 0


@dataclass(frozen=True)
class Gradient:
    """Take the gradient of the mean loss over the client's own training data; nothing is trained.

    The model is in evaluation mode: nothing is drawn, and a sample's part does not rest on which are beside it. One
    forward and one backward pass of each row count as work.

    Attributes:
        model: architecture.
        params: where the gradient is taken; not modified.
        rows: which of the client's training samples, numbers 0..n−1 of its ``info.train_samples`` (a number may come
            twice, and then counts twice); None: all.
        loss: see :data:`Loss`.
        trainable: names of parameters; None: all.
        constants: tensors the loss needs beside the batch.
    """

    model: Buildable
    params: Params
    rows: tuple[int, ...] | None = None
    loss: Loss = task_loss
    trainable: frozenset[str] | None = None
    constants: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class MeanGradient:
    """Answer to :class:`Gradient`: by parameter, zeros where the loss does not touch it; the mean loss; the samples.

    Over no samples the gradient is zero and the loss NaN.
    """

    gradient: Params
    loss: float
    samples: int


Metric = Callable[[Tensor, Tensor], float]
"""A measure of one client: of a model's outputs (n, K) and the targets (n, ...), on the CPU. NaN: not defined there."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a model on the client's own data; with ``pairs``, also count which class was taken for which.

    ``further`` are metrics by name that are computed as well, on all of the outputs at once.
    """

    model: Buildable
    params: Params
    split: Literal["train", "test", "validation"] = "test"
    pairs: bool = False
    further: tuple[tuple[str, Metric], ...] = ()


Pairs = tuple[tuple[int, int, int], ...]
"""How many samples of which class were taken for which: true class, predicted class, samples ≥ 1; each pair once."""


Sums = Mapping[str, tuple[float, ...]]
"""Sums over samples by name, one for each output of the model."""


@dataclass(frozen=True)
class Evaluation:
    """Answer to :class:`Evaluate`: counts that pool by addition.

    Attributes:
        correct: samples whose class, or all of whose labels, are right; 0 of a regression.
        samples: how many there are.
        loss_sum: Σ of the task's loss over them.
        pairs: empty unless they were asked for.
        sums: what measures of numbers and labels follow from; see :mod:`strata.engine.evaluation.measures`.
        further: what the metrics gave that were asked for, by name; without those that are not defined there.
    """

    correct: int
    samples: int
    loss_sum: float
    pairs: Pairs = ()
    sums: Sums = field(default_factory=dict)
    further: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of samples classified correctly, 0..1."""
        return self.correct / self.samples


@dataclass(frozen=True)
class Represent:
    """Average a model's features over each class of the client's own data.

    ``model`` builds an :class:`~strata.engine.models.base.FeatureModel`; the forward passes count as work.
    """

    model: Buildable
    params: Params
    split: Literal["train", "test"] = "train"


@dataclass(frozen=True)
class Represented:
    """Answer to :class:`Represent`, for the classes that occur: ``means`` (P, F) float32, P classes, F features.

    ``classes`` (P,) are their numbers in ascending order, ``counts`` (P,) their samples; both int64.
    """

    classes: Tensor
    means: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Recalibrate:
    """Compute a model's batch-norm statistics anew on the client's own data; nothing is trained.

    Running means and variances become the plain mean of those of some batches, which pass through the model without
    gradients, each layer normalised by its own batch (Yu and Huang, arXiv 1903.05134, section 3.2). The rest of the
    model is in evaluation mode. The forward passes count as work.

    Attributes:
        model: architecture.
        params: its values; not modified.
        batch_size: samples per batch.
        batches: how many at most, of samples drawn without repetition; fewer where the client has fewer.
        split: of the client's data.
    """

    model: Buildable
    params: Params
    batch_size: int
    batches: int
    split: Literal["train", "test"] = "train"


@dataclass(frozen=True)
class Recalibrated:
    """Answer to :class:`Recalibrate`: the parameters, of which running means and variances alone have changed."""

    params: Params


Request = Train | Gradient | Evaluate | Represent | Recalibrate
"""What a client step can ask for."""

Answer = Trained | MeanGradient | Evaluation | Represented | Recalibrated
"""What it is answered."""


@dataclass
class Work:
    """What a client call has cost so far, counted by the trainer."""

    flops: int = 0
    samples: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    singly: dict[str, int] = field(default_factory=dict)

    def alone(self, reason: str) -> None:
        """Note that a request was answered by itself, though several at once were asked for."""
        self.singly[reason] = self.singly.get(reason, 0) + 1

    @property
    def loss(self) -> float | None:
        """Mean loss of all steps so far, None before the first."""
        return self.loss_sum / self.steps if self.steps else None
