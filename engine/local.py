"""Local SGD as most methods configure it."""

from dataclasses import dataclass

from engine.errors import ConfigError
from engine.messages import Params
from engine.models import Buildable
from engine.options import Validated, option
from engine.requests import Loss, Pull, Sgd, Train, cross_entropy


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
        if self.epochs == 0 and self.steps == 0:
            raise ConfigError(f"{path}epochs=0 and {path}steps=0: one of the two must be ≥ 1.")

    def train(
        self,
        model: Buildable,
        start: Params,
        epochs: int,
        steps: int,
        pull: tuple[Pull, ...] = (),
        loss: Loss = cross_entropy,
    ) -> Train:
        """The request for one client call; ``steps`` 0 counts in ``epochs``."""
        return Train(
            model,
            start,
            Sgd(self.lr, self.momentum, self.weight_decay),
            self.batch_size,
            steps=steps or None,
            epochs=None if steps else epochs,
            loss=loss,
            pull=pull,
        )
