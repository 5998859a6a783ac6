"""How long a client trains, as configurations, assignments, messages and requests say it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Length:
    """How long to train: so many minibatch ``steps``; where they are 0, so many ``epochs`` over the client's data."""

    epochs: int = 0
    steps: int = 0

    @classmethod
    def of(cls, assignment: Mapping[str, Any]) -> "Length":
        """The length that an assignment states, under ``epochs`` and ``steps``."""
        return cls(int(assignment["epochs"]), int(assignment["steps"]))

    def told(self) -> dict[str, int]:
        """The length as an assignment says it; the inverse of :meth:`of`."""
        return {"epochs": self.epochs, "steps": self.steps}

    @property
    def unit(self) -> str:
        """The unit of the length: ``steps`` or ``epochs``, the name of the field."""
        return "steps" if self.steps else "epochs"

    @property
    def count(self) -> int:
        """The number of epochs, or of steps: the field that :attr:`unit` names."""
        return self.steps or self.epochs

    def in_steps(self, per_epoch: int) -> int:
        """The length in minibatch steps, of which an epoch has ``per_epoch``."""
        return self.steps or self.epochs * per_epoch
