"""What the engine knows of data: an array of inputs, an array of targets, and who holds which rows.

# N samples, C clients
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.remarks import Remarks
from strata.engine.errors import DataError

IntArray = NDArray[np.int64]

Task = Literal["classification", "regression", "multi_label", "next_token"]
"""What a model does: tell one class of a sample, numbers, which of several labels it has, or the token that follows."""


class TokenShape(tuple[int, ...]):
    """The shape ``(length,)`` of an input that is a row of token ids ``0..vocabulary-1``, with 0 for padding."""

    vocabulary: int

    def __new__(cls, shape: Sequence[int], vocabulary: int) -> "TokenShape":
        """Make the tuple ``shape``, and note on it the number of token ids, ``vocabulary``."""
        made = super().__new__(cls, shape)
        made.vocabulary = vocabulary
        return made

    def __getnewargs__(self) -> tuple[tuple[int, ...], int]:
        """What pickle and copy make the tuple again from; without it ``vocabulary`` would be missing."""
        return tuple(self), self.vocabulary


@dataclass(frozen=True)
class Dataset:
    """Inputs and targets of one task, all splits joined.

    Attributes:
        name: what it is called in tables, e.g. ``fashion_mnist``.
        x: inputs ``(N, ...)``, C-contiguous, maybe :class:`~strata.engine.data.mapped.Mapped`. Any shape: images are
            ``(N, channels, height, width)``, tables ``(N, features)``, series ``(N, channels, length)``, token ids
            ``(N, length)``. ``uint8`` or ``float32`` or ``int64``. See ``value_range`` for what reaches a model.
        y: class, or next token, of each sample, ``(N,)`` int64 in ``0..classes-1``; numbers ``(N, classes)`` float32 of
            a regression; which labels each has ``(N, classes)`` uint8 of 0 and 1.
        classes: number of outputs of a model: of classes, tokens or labels K, or of columns of numbers.
        class_names: K names, for tables and plots; none of tokens.
        natural: name of the client each sample comes from, ``(N,)`` of str or whole numbers, or None where no client is
            known.
        natural_test: True for the samples of the published test split, ``(N,)`` bool, or None where there is none.
        shift: see ``x``; 0.5 with ``scale`` 0.5 maps pixels to [-1, 1].
        scale: see ``x``.
        vocabulary: number of token ids where ``x`` holds some, which are then ``0..vocabulary-1`` with 0 for padding;
            0 for every other kind of input.
        value_range: ``(low, high)``, inputs then reach the model as ``((x - low) / (high - low) - shift) / scale`` in
            float32; None is 0..255 for ``uint8``, and as they are (in float32) for others. Token ids stay whole.
        remarks: what the reader says of how it read the set.
        task: what ``y`` is for.
    """

    name: str
    x: NDArray[np.generic]
    y: NDArray[Any]
    classes: int
    class_names: Sequence[str] = ()
    natural: NDArray[np.generic] | None = None
    natural_test: NDArray[np.bool_] | None = None
    shift: float = 0.5
    scale: float = 0.5
    vocabulary: int = 0
    value_range: tuple[float, float] | None = None
    remarks: Remarks = field(default_factory=Remarks)
    task: Task = "classification"

    @property
    def has_classes(self) -> bool:
        """Whether each sample is of one class, by which samples can be dealt."""
        return self.task == "classification"

    @property
    def one_class(self) -> bool:
        """Whether each sample has one class or token, which is right or wrong."""
        return self.task in ("classification", "next_token")

    @property
    def groups(self) -> IntArray:
        """By what samples are kept in balance, ``(N,)``: their class, or, without classes, 0 for all of them."""
        return self.y if self.has_classes else np.broadcast_to(np.int64(0), len(self.y))

    @property
    def group_count(self) -> int:
        """How many ``groups`` there are."""
        return self.classes if self.has_classes else 1

    def require_classes(self, setting: str, instead: str) -> None:
        """Refuse a setting that goes by classes where there are none.

        Raises:
            DataError: naming the setting, the task, and what to use instead.
        """
        if not self.has_classes:
            raise DataError(f"{setting} goes by classes, and {self.name} is read for {self.task}. Use {instead}.")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch dimension; a :class:`TokenShape` where inputs are token ids."""
        shape = tuple(self.x.shape[1:])
        return TokenShape(shape, self.vocabulary) if self.vocabulary else shape


@dataclass(frozen=True)
class ClientData:
    """The rows of one client: indices into the :class:`Dataset`, each ``(n,)`` int64, disjoint.

    ``validation`` is what was held out of the training rows; empty unless ``data.validation_fraction`` asks for it.
    """

    train: IntArray
    test: IntArray
    validation: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class FederatedData:
    """A data set and who holds which rows of it.

    Attributes:
        dataset: all samples; ``dataset.y`` carries the label noise, if any was asked for.
        clients: one :class:`ClientData` per client, in the order of client ids 0..C-1.
        teams: members of each team (client ids, ascending) by team id; empty for a federation without a team tier.
        server: rows that servers hold, and no client.
    """

    dataset: Dataset
    clients: Sequence[ClientData]
    teams: Mapping[int, Sequence[int]] = field(default_factory=dict)
    server: ClientData = field(default_factory=lambda: ClientData(np.zeros(0, np.int64), np.zeros(0, np.int64)))
