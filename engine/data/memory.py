"""Data sets that are in memory already: arrays, and torch data sets.

# N samples, K classes
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from strata.engine.data.config import DataConfig
from strata.engine.data.dataset import Dataset, Task
from strata.engine.data.sources.raw import Raw, split_flags, to_dataset
from strata.engine.data.supervision import flattened
from strata.engine.errors import DataError


def from_arrays(
    x: Any,
    y: Any,
    clients: Any = None,
    test: Any = None,
    classes: int | Sequence[str] | None = None,
    name: str = "arrays",
    range: str = "auto",
    task: Task | Literal["auto"] = "auto",
) -> Dataset:
    """A data set of arrays, for ``data=`` of :func:`strata.run`.

    Args:
        x: inputs ``(N, ...)``: arrays, tensors or lists of numbers; images are ``(N, channels, height, width)``. uint8
            reaches a model as ``(x / 255 - 0.5) / 0.5``; for other numbers see ``range``.
        y: class of each sample ``(N,)``: whole numbers or text; numbers ``(N,)`` or ``(N, D)`` of a regression; 0 and 1
            by label ``(N, K)``; or the token that follows each row of token ids ``(N,)``.
        clients: name or number of the client that each sample comes from, ``(N,)``; ``partition`` is then ``natural``
            and ``clients.count`` all of them, unless settings say otherwise.
        test: the published test data: a pair ``(x, y)`` more of them, or flags ``(N,)`` that are True for these
            samples; ``data.split`` is then ``published``, unless settings say otherwise.
        classes: how many there are, K, or their names, ``y`` is then ``0..K-1``; or names of the columns of ``y``.
            None: the values that occur in ``y``.
        name: what it is called in tables and in the configuration, ``data.name=memory:NAME``.
        range: which values reach a model as -1 and 1, as ``data.range`` says it for files: ``auto`` takes images for
            0..1 or 0..255 by their values, and all else as it is; ``none``: all is as it is; ``LOW..HIGH``.
        task: what is learnt, as ``data.task`` says it for files: ``auto`` takes fractions for a regression, several
            columns of 0 and 1 for several labels, and all else for classes.

    Raises:
        DataError: for arrays that do not fit together, or hold what is no number.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name):
        raise DataError(f"name={name!r}: expected letters, digits, and any of . + - _, as text.")
    where = f"data {name}"
    inputs, labels, flags = _array(x, f"{where}, x"), _targets(y, f"{where}, y"), None
    if isinstance(test, tuple) and len(test) == 2:
        more = _array(test[0], f"{where}, test x"), _targets(test[1], f"{where}, test y")
        _same_length(*more, f"{where}, test")
        if inputs.shape[1:] != more[0].shape[1:] or inputs.dtype != more[0].dtype:
            raise DataError(
                f"{where}: test inputs are {more[0].dtype} of shape {more[0].shape[1:]}, expected {inputs.dtype} of "
                f"shape {inputs.shape[1:]}, as the others."
            )
        flags = split_flags(len(inputs), len(more[0]))
        _same_length(inputs, labels, where)
        inputs, labels = np.concatenate([inputs, more[0]]), np.concatenate([labels, more[1]])
    elif test is not None:
        flags = _flags(test, len(inputs), where)
    _same_length(inputs, labels, where)
    owners = None if clients is None else _owners(clients, len(inputs), where)
    names = _class_names(classes, labels, where)
    if task != "auto" and task not in get_args(Task):
        raise DataError(f"{where}: task={task!r}; expected auto, {', '.join(get_args(Task))}.")
    config = DataConfig(range=range, task=task)
    labels, said = flattened(labels, task)
    return to_dataset(Raw(inputs, labels, flags, owners, names, remarks=said), name, where, config)


def from_torch(
    dataset: "TorchDataset[Any]",
    clients: Any = None,
    test: "TorchDataset[Any] | None" = None,
    classes: int | Sequence[str] | None = None,
    name: str = "torch",
    range: str = "auto",
    task: Task | Literal["auto"] = "auto",
) -> Dataset:
    """A data set of a torch data set, whose samples are pairs (input, target); all of it is read now, once.

    Args:
        dataset: with a length; inputs are tensors, arrays or pictures (which become uint8, channels first) of one
            shape. What its transforms draw at random is drawn once.
        clients: see :func:`from_arrays`.
        test: a second one, the published test data.
        classes: see :func:`from_arrays`.
        name: see :func:`from_arrays`.
        range: see :func:`from_arrays`; ``none`` where transforms normalise.
        task: see :func:`from_arrays`.

    Raises:
        DataError: for a data set without a length, or whose samples are something else.
    """
    x, y = _read(dataset, f"data {name}")
    more = None if test is None else _read(test, f"data {name}, test")
    return from_arrays(x, y, clients, more, classes, name, range, task)


def _read(dataset: "TorchDataset[Any]", where: str) -> tuple[Any, Any]:
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors[0], dataset.tensors[1]
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(
            f"{where}: a {type(dataset).__name__} has no length; expected one with len() and [i]."
        ) from None
    pairs = [dataset[place] for place in range(count)]
    if not pairs or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise DataError(f"{where}: expected samples that are pairs (input, target), and at least one.")
    try:
        x = np.stack([_array(_picture(one), where) for one, _ in pairs])
    except ValueError:
        raise DataError(
            f"{where}: its inputs are of several shapes; expected one. Resize them in a transform."
        ) from None
    return x, [label.tolist() if hasattr(label, "tolist") else label for _, label in pairs]


def _picture(one: object) -> object:
    if not isinstance(one, Image.Image):
        return one
    pixels = np.asarray(one)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _array(values: Any, where: str) -> NDArray[np.generic]:
    try:
        made = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{where}: it is no array: {error}.") from None
    return made


def _column(values: Any, where: str) -> NDArray[np.generic]:
    made = _array(values, where)
    if made.ndim != 1:
        raise DataError(f"{where}: its shape is {made.shape}; expected one value a sample, (N,).")
    return made


def _targets(values: Any, where: str) -> NDArray[np.generic]:
    made = _array(values, where)
    if made.ndim not in (1, 2):
        raise DataError(f"{where}: its shape is {made.shape}; expected one target a sample, (N,) or (N, D).")
    return made


def _same_length(x: NDArray[np.generic], y: NDArray[np.generic], where: str) -> None:
    if not x.ndim or len(x) != len(y):
        raise DataError(f"{where}: x is of shape {x.shape} and y of shape {y.shape}; expected one target a sample.")


def _flags(test: Any, count: int, where: str) -> NDArray[np.bool_]:
    flags = _array(test, f"{where}, test")
    if flags.dtype != np.bool_ or flags.shape != (count,) or not flags.any() or flags.all():
        raise DataError(
            f"{where}: test is {flags.dtype} of shape {flags.shape}; expected a pair (x, y), or True or False for each "
            f"of the {count} samples, some of each."
        )
    return flags.astype(np.bool_)


def _owners(clients: Any, count: int, where: str) -> NDArray[np.generic]:
    owners = _column(clients, f"{where}, clients")
    if len(owners) != count or owners.dtype.kind not in "iuUO":
        raise DataError(
            f"{where}: clients are {owners.dtype} of shape {owners.shape}; expected the name or whole number of a "
            f"client for each of the {count} samples, test data included."
        )
    return np.array([str(owner) for owner in owners]) if owners.dtype.kind == "O" else owners


def _class_names(classes: int | Sequence[str] | None, labels: NDArray[np.generic], where: str) -> Sequence[str]:
    if classes is None:
        return ()
    if isinstance(classes, bool | str) or not isinstance(classes, int | Sequence) or not classes:
        raise DataError(f"{where}: classes={classes!r}; expected how many there are, or their names.")
    if labels.ndim == 2 and not isinstance(classes, int):
        return [str(one) for one in classes]
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: y is {labels.dtype}; expected whole numbers from 0, as classes are given.")
    if isinstance(classes, int):
        return [str(k) for k in range(classes)]
    return [str(one) for one in classes]
