"""Which parts of an upload go back to what its sender was sent, and what was changed of them."""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from typing import Any

from torch import Tensor

from strata.engine.params import Params
from strata.engine.tree import alike, field_names

Change = Callable[[str, Tensor, Tensor | None], Tensor]
"""Gives what stands in a float tensor's place, from its path, itself, and what was sent in its place, if it was."""


def source_of(name: str, part: object, sent: object) -> str | None:
    """The field of what was sent that a part of an upload goes back to: of its name, or the only one with all of it."""
    if not isinstance(part, Tensor) and not is_model(part):
        return None
    fields = getattr(sent, "__dict__", {})
    if name in fields:
        return name if isinstance(fields[name], Tensor) or is_model(fields[name]) else None
    wholes = [field for field, value in fields.items() if _covers(value, part)]
    return wholes[0] if len(wholes) == 1 else None


def is_model(part: object) -> bool:
    """Whether a part of a message is a dict of tensors."""
    return isinstance(part, Mapping) and all(isinstance(value, Tensor) for value in part.values())


def _covers(sent: object, part: object) -> bool:
    if not isinstance(part, Mapping) or not isinstance(sent, Mapping) or not part:
        return False
    return all(alike(sent.get(name), value) for name, value in part.items())


def changed(up: Any, sent: object, change: Change) -> Any:
    """An upload with every float tensor in it replaced.

    Args:
        up: the upload, a tree; it is not changed itself.
        sent: what its sender was sent; a dataclass whose fields the upload's are compared with, or anything else.
        change: gives what stands in a tensor's place.
    """
    kind: type = type(up)
    if not is_dataclass(kind):
        return _replaced(up, None, "", change)
    parts = {name: getattr(up, name) for name in field_names(kind)}
    sources = {name: source_of(name, part, sent) for name, part in parts.items()}
    bases = {name: None if source is None else getattr(sent, source) for name, source in sources.items()}
    return replace(up, **{name: _replaced(part, bases[name], f".{name}", change) for name, part in parts.items()})


def _replaced(part: Any, base: Any, path: str, change: Change) -> Any:
    if isinstance(part, Tensor):
        return change(path, part, base if alike(base, part) else None) if part.is_floating_point() else part
    if isinstance(part, Mapping):
        old = base if isinstance(base, Mapping) else {}
        return {name: _replaced(value, old.get(name), f"{path}[{name}]", change) for name, value in part.items()}
    kind: type = type(part)
    if is_dataclass(kind):
        names = field_names(kind)
        return replace(part, **{n: _replaced(getattr(part, n), None, f"{path}.{n}", change) for n in names})
    if kind in (list, tuple):
        return kind(_replaced(value, None, f"{path}[{place}]", change) for place, value in enumerate(part))
    return part


def changes_of(up: object, sent: object, mirrored_only: bool = False) -> Params:
    """What an upload changes: of each float tensor, by its path, up − sent, or itself where nothing was sent for it.

    With ``mirrored_only`` those for which nothing was sent are left out.
    """
    found: Params = {}

    def note(path: str, tensor: Tensor, base: Tensor | None) -> Tensor:
        if base is not None or not mirrored_only:
            found[path] = tensor if base is None else tensor - base
        return tensor

    changed(up, sent, note)
    return found


def with_changes(up: Any, sent: object, changes: Params) -> Any:
    """An upload with other changes, by path as :func:`changes_of` gives them; what these lack stays as it is."""

    def moved(path: str, tensor: Tensor, base: Tensor | None) -> Tensor:
        if path not in changes:
            return tensor
        return changes[path] if base is None else base + changes[path]

    return changed(up, sent, moved)
