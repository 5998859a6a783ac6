"""Local training as methods configure it: SGD as most do, or with AdamW, label smoothing and a schedule beside it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from strata.engine.errors import ConfigError
from strata.engine.method.length import Length
from strata.engine.method.losses import Loss, SmoothedCrossEntropy, task_loss
from strata.engine.method.requests import AdamW, Pull, Sgd, Train
from strata.engine.models.base import Buildable
from strata.engine.options import Validated, option
from strata.engine.params import Params


@dataclass(frozen=True)
class LocalSgd(Validated):
    """Learning rate, batch size, and how long a client trains per call: in epochs, or in minibatch steps."""

    lr: float = option(0.01, "learning rate of local SGD", gt=0)
    momentum: float = option(0.0, "momentum of local SGD", ge=0, lt=1)
    weight_decay: float = option(0.0, "L2 weight decay of local SGD", ge=0)
    batch_size: int = option(32, "samples per minibatch step", ge=1)
    epochs: int = option(1, "passes over the client's data per call (E), where steps is 0", ge=0)
    steps: int = option(0, "minibatch steps per call (L); 0: count in epochs", ge=0)

    def validate(self, path: str) -> None:
        """A client must train for some time."""
        if not self.length.count:
            raise ConfigError(f"{path}epochs=0 and {path}steps=0: one of the two must be ≥ 1.")

    @property
    def length(self) -> Length:
        """How long a client trains per call where no agent decides."""
        return Length(self.epochs, self.steps)

    def train(
        self,
        model: Buildable,
        start: Params,
        length: Length,
        pull: tuple[Pull, ...] = (),
        loss: Loss = task_loss,
    ) -> Train:
        """The request to train a model for the length of one client call."""
        optimizer = Sgd(self.lr, self.momentum, self.weight_decay)
        return Train(model, start, optimizer, self.batch_size, length, loss=loss, pull=pull)


@dataclass(frozen=True)
class LocalTraining(LocalSgd):
    """Local SGD or AdamW, with label smoothing, and a learning rate that may fall over the rounds."""

    optimizer: Literal["sgd", "adamw"] = option("sgd", "local optimiser; momentum is for sgd alone")
    label_smoothing: float = option(0.0, "share of each label's mass that goes to all classes alike", ge=0, lt=1)
    cosine_rounds: int = option(
        0,
        "rounds over which the learning rate falls to 0 along a cosine, as a rule those of the run; 0: constant",
        ge=0,
    )

    def lr_in(self, round: int) -> float:
        """The learning rate of a round ≥ 1: lr · ½(1 + cos(π (round − 1) / cosine_rounds)), 0 after the last."""
        if not self.cosine_rounds:
            return self.lr
        return self.lr * (1 + math.cos(math.pi * min(1.0, (round - 1) / self.cosine_rounds))) / 2

    def train_in(self, round: int, model: Buildable, start: Params, length: Length, batch_size: int = 0) -> Train:
        """The request to train a model in a call of ``round``; ``batch_size`` 0 is the configured one."""
        loss = SmoothedCrossEntropy(self.label_smoothing) if self.label_smoothing else task_loss
        request = self.train(model, start, length, loss=loss)
        lr = self.lr_in(round)
        adamw = self.optimizer == "adamw"
        optimizer = AdamW(lr, self.weight_decay) if adamw else Sgd(lr, self.momentum, self.weight_decay)
        return replace(request, optimizer=optimizer, batch_size=batch_size or self.batch_size)

    @property
    def optimizer_values(self) -> int:
        """What the optimiser keeps per parameter; see :func:`strata.engine.models.supernets.cost.cost`."""
        return 2 if self.optimizer == "adamw" else int(self.momentum > 0)
