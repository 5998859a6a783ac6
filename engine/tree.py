"""Trees of tensors and numbers: what crosses the network, and what is kept between rounds.

A tree is a tensor, a number, a string, None, or a dataclass, dict, list or tuple of trees. Everything here walks trees
in one fixed order, so bytes, hashes and files do not depend on how a tree was built.
"""

import dataclasses
import hashlib
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

Leaf = Tensor | bool | int | float | str | None
PLAIN = frozenset({bool, int, float, str, type(None)})

L = TypeVar("L")


def leaves(tree: object, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """All leaves of a tree with their paths, in a fixed order (dict keys sorted by their text).

    Raises:
        TypeError: for a leaf that is neither tensor, number, string nor None.
    """
    if tree is None or isinstance(tree, Tensor | bool | int | float | str):
        yield path, tree
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from leaves(getattr(tree, field.name), f"{path}.{field.name}")
    elif isinstance(tree, Mapping):
        for key in sorted(tree, key=str):
            yield from leaves(tree[key], f"{path}[{key}]")
    elif isinstance(tree, Sequence):
        for index, item in enumerate(tree):
            yield from leaves(item, f"{path}[{index}]")
    else:
        raise TypeError(
            f"{path or 'message'}: a {type(tree).__name__} cannot cross the network; use tensors and numbers"
        )


def kinds(tree: object) -> Iterator[object]:
    """What a tree is built of beside its leaves: type by type, with the keys of its dicts and the lengths of its lists.

    Two trees with equal leaves and equal kinds are the same to whoever receives them.
    """
    if (names := fields_of(tree)) is not None:
        yield type(tree)
        for name in names:
            yield from kinds(getattr(tree, name))
    elif isinstance(tree, Mapping):
        yield type(tree), tuple(tree)
        for value in tree.values():
            yield from kinds(value)
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        yield type(tree), len(tree)
        for item in tree:
            yield from kinds(item)


def objects_in(tree: object) -> Iterator[object]:
    """All objects that a tree is made of, itself first; no numbers and texts."""
    if type(tree) in PLAIN:
        return
    yield tree
    if (names := fields_of(tree)) is not None:
        parts: Iterable[object] = [getattr(tree, name) for name in names]
    elif isinstance(tree, Mapping):
        parts = tree.values()
    else:
        parts = tree if isinstance(tree, Sequence) else ()
    for part in parts:
        yield from objects_in(part)


def parts_of(message: object) -> object:
    """Equal for messages of the same objects, which are the same without a look into these."""
    own = type(message)
    if own in PLAIN:
        return own, repr(message)
    names = fields_of(message)
    return id(message) if names is None else (own, tuple([parts_of(getattr(message, name)) for name in names]))


def message_key(message: object) -> object:
    """Equal for messages of the same types, tensors and numbers, which may become one object and travel once."""
    values = [
        (path, id(leaf) if isinstance(leaf, Tensor) else (type(leaf), repr(leaf))) for path, leaf in leaves(message)
    ]
    return tuple(values), tuple(kinds(message))


def replaced(tree: object, kind: type[L] | tuple[type[L], ...], change: Callable[[L], object]) -> object:
    """The tree with every leaf of some types replaced; parts that hold none are the same objects, not copies.

    Named tuples are left as they are: they hold numbers, and a round has hundreds.
    """
    own: type = type(tree)
    if own in PLAIN:
        return tree
    if isinstance(tree, kind):
        return change(tree)
    if (names := fields_of(tree)) is not None:
        before = [getattr(tree, name) for name in names]
        after = _all_replaced(before, kind, change)
        return own(**dict(zip(names, after, strict=True))) if _differ(before, after) else tree
    if isinstance(tree, Mapping):
        items = tree.values()
        changed = _all_replaced(items, kind, change)
        return dict(zip(tree, changed, strict=True)) if _differ(items, changed) else tree
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        after = _all_replaced(tree, kind, change)
        return own(after) if _differ(tree, after) else tree
    return tree


def _all_replaced(
    parts: Iterable[object], kind: type[L] | tuple[type[L], ...], change: Callable[[L], object]
) -> list[object]:
    # What is plain is not asked twice: most parts are.
    return [part if type(part) in PLAIN else replaced(part, kind, change) for part in parts]


@lru_cache(maxsize=1024)
def field_names(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields, in their order."""
    return tuple(field.name for field in dataclasses.fields(kind))


def fields_of(part: object) -> tuple[str, ...] | None:
    """The names of the fields of what is of a dataclass; None for anything else."""
    kind: type = type(part)
    return field_names(kind) if dataclasses.is_dataclass(kind) else None


def _differ(before: Iterable[object], after: Iterable[object]) -> bool:
    return not all(map(operator.is_, before, after))


def count_bytes(message: object) -> int:
    """Bytes a message takes on the wire: tensors at their size, numbers at 8, booleans at 1, text in UTF-8.

    Raises:
        TypeError: for a part that is none of those; it says where in the message.
    """
    try:
        return _bytes(message)
    except TypeError:
        for _ in leaves(message):  # which know where they are
            pass
        raise


def _bytes(part: object) -> int:
    if part is None:
        return 0
    if isinstance(part, Tensor):
        return int(part.nbytes)
    if isinstance(part, dict):  # before the interfaces, which take longer to ask for
        return sum(map(_bytes, part.values()))
    if (names := fields_of(part)) is not None:
        return sum([_bytes(getattr(part, name)) for name in names])
    if isinstance(part, str):
        return len(part.encode())
    if isinstance(part, bool):
        return 1
    if isinstance(part, int | float):
        return 8
    if isinstance(part, Mapping):
        return sum(map(_bytes, part.values()))
    if isinstance(part, Sequence):
        return sum(map(_bytes, part))
    raise TypeError(f"a {type(part).__name__} cannot cross the network; use tensors and numbers")


def only_read(array: NDArray[Any]) -> Tensor:
    """A tensor on the memory of an array, for code that never writes to it: out of Ray's store that would crash."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)


def fingerprint(tree: object) -> str:
    """SHA-256 over every path, type, shape and value of a tree: equal to the bit, or different."""
    digest = hashlib.sha256()
    for path, leaf in leaves(tree):
        digest.update(path.encode())
        if isinstance(leaf, Tensor):
            array = leaf.detach().cpu().contiguous().numpy()
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        else:
            digest.update(f"{type(leaf).__name__}{leaf!r}".encode())
    return digest.hexdigest()


def between(before: L, after: L, share: float) -> L:
    """A tree between two: every float tensor that has one shape in both is ``before + share · (after − before)``.

    All else is as it is afterwards. With a share of 1 that is ``after`` itself.
    """
    return after if share == 1 else _between(before, after, share)


def _between(before: Any, after: Any, share: float) -> Any:
    if isinstance(after, Tensor):
        return torch.add(before, after - before, alpha=share) if alike(before, after) else after
    if isinstance(after, Mapping):
        old = before if isinstance(before, Mapping) else {}
        return {name: _between(old.get(name), value, share) for name, value in after.items()}
    own = type(after)
    if own is not type(before):
        return after
    if dataclasses.is_dataclass(own):
        return own(**{n: _between(getattr(before, n), getattr(after, n), share) for n in field_names(own)})
    if own in (list, tuple) and len(before) == len(after):
        return own(_between(b, a, share) for b, a in zip(before, after, strict=True))
    return after


def alike(one: object, other: object) -> bool:
    """Whether two are float tensors of one shape, so that something lies between them."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return False
    return one.shape == other.shape and one.is_floating_point() and other.is_floating_point()
