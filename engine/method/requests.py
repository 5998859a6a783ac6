"""What a method asks of the trainer, and what it gets back. A method never loops over batches itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from strata.engine.method.length import Length
from strata.engine.method.losses import Loss, cross_entropy
from strata.engine.models.base import Buildable
from strata.engine.params import Params


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
    """

    model: Buildable
    start: Params
    optimizer: Sgd | AdamW
    batch_size: int
    length: Length
    repeat_batch: bool = False
    loss: Loss = cross_entropy
    trainable: frozenset[str] | None = None
    frozen: tuple[str, ...] = ()
    pull: tuple[Pull, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """Answer to :class:`Train`: new parameters, and the mean of the steps' losses."""

    params: Params
    loss: float


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a model on the client's own data."""

    model: Buildable
    params: Params
    split: Literal["train", "test", "validation"] = "test"


@dataclass(frozen=True)
class Evaluation:
    """Answer to :class:`Evaluate`: counts that pool by addition. ``loss_sum`` is Σ cross-entropy over the samples."""

    correct: int
    samples: int
    loss_sum: float

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


Request = Train | Evaluate | Represent
"""What a client step can ask for."""

Answer = Trained | Evaluation | Represented
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
