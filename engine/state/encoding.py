"""Trees of states as JSON and tensors, and back again. Nothing that is read can run code.

A tree is a dataclass, dict, list, tuple, tensor, number, string or None. Its tensors are replaced by names, and its
dataclasses and named tuples by the names that the caller has for their types, so that a class may move to another
module. Only types that the caller names are read back; a tree that holds another is refused when it is written.
"""

import dataclasses
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from strata.engine.errors import StateError

StateTypes = Mapping[str, type]
"""Dataclasses and named tuples that a state may hold, by the names that it has for them."""

NO_TYPES: StateTypes = {}
LENGTH = struct.Struct("<Q")  # of the JSON that a packed tree begins with


def pack(tree: object, types: StateTypes, path: str = "") -> bytes:
    """A tree as bytes; ``path`` is where it lies, for errors.

    Raises:
        StateError: when it holds what :func:`unpack` would refuse or give back as something else; says where and what.
    """
    skeleton, tensors = encoded(tree, types, path)
    text = json.dumps(skeleton).encode()
    return LENGTH.pack(len(text)) + text + save_tensors(tensors)


def unpack(data: bytes, types: StateTypes) -> object:
    """The tree that :func:`pack` was given.

    Raises:
        ValueError: when the bytes are none of its, or name a type that is not among ``types``.
    """
    try:
        (length,) = LENGTH.unpack_from(data)
        begin = LENGTH.size + length
        return decoded(json.loads(data[LENGTH.size : begin]), load_tensors(data[begin:]), types)
    except (SafetensorError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def encoded(tree: object, types: StateTypes, path: str = "") -> tuple[object, dict[str, Tensor]]:
    """A tree as plain JSON in which names stand for its tensors, and the tensors by name.

    Raises:
        StateError: when it holds what :func:`decoded` would refuse or give back as something else; says where and what.
    """
    tensors: dict[str, Tensor] = {}
    return _encode(tree, tensors, {kind: name for name, kind in types.items()}, path), tensors


def _encode(tree: object, tensors: dict[str, Tensor], names: Mapping[type, str], path: str = "") -> object:
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, Tensor):
        name = f"t{len(tensors)}"
        # A copy: safetensors refuses tensors that share memory, and states of several owners may.
        tensors[name] = tree.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        items = [_encode(item, tensors, names, f"{path}[{index}]") for index, item in enumerate(tree)]
        return {"tuple" if isinstance(tree, tuple) else "list": items}
    if isinstance(tree, Mapping):
        for key in tree:
            if not (key is None or isinstance(key, bool | int | float | str)):
                raise _refused(path, key, " as a key")
        return {"dict": [[key, _encode(value, tensors, names, f"{path}[{key}]")] for key, value in tree.items()]}
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return _encode_dataclass(tree, tensors, names, path)
    if isinstance(tree, tuple) and type(tree) in names:
        return _encode_fields(getattr(tree, "_fields", ()), tree, tensors, names, path)
    raise _refused(path, tree)


def _encode_dataclass(tree: Any, tensors: dict[str, Tensor], names: Mapping[type, str], path: str) -> object:
    fields = dataclasses.fields(tree)
    for entry in fields:
        if not entry.init:
            raise _refused(path, tree, f", whose field {entry.name} is not given to it when it is made (init=False),")
    return _encode_fields([entry.name for entry in fields], tree, tensors, names, path)


def _encode_fields(
    fields: Sequence[str], tree: object, tensors: dict[str, Tensor], names: Mapping[type, str], path: str
) -> object:
    kept = {name: _encode(getattr(tree, name), tensors, names, f"{path}.{name}") for name in fields}
    return {"type": _name_of(type(tree), names), "fields": kept}


def _refused(path: str, what: object, how: str = "") -> StateError:
    return StateError(
        f"{path or 'state'}: a {type(what).__name__}{how} could not be restored from a checkpoint as it is. Keep "
        "tensors, numbers, text, lists, plain tuples, dicts with plain keys, and dataclasses of these in a state."
    )


def _name_of(kind: type, names: Mapping[type, str]) -> str:
    if kind not in names:
        raise StateError(
            f"the state holds an instance of {kind.__qualname__} of module {kind.__module__}, which could not be "
            "restored from a checkpoint. Define the classes of states at the top level of the module of the method, or "
            "of one of its base classes."
        )
    return names[kind]


def decoded(node: object, tensors: Mapping[str, Tensor], types: StateTypes) -> object:
    """The tree that :func:`encoded` was given.

    Raises:
        ValueError: for a type that is not among ``types``. Others (KeyError, TypeError, AttributeError) where it fits
            the types no more.
    """
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        return tensors[node["tensor"]]
    if "list" in node:
        return [decoded(item, tensors, types) for item in node["list"]]
    if "tuple" in node:
        return tuple(decoded(item, tensors, types) for item in node["tuple"])
    if "dict" in node:
        return {key: decoded(value, tensors, types) for key, value in node["dict"]}
    if node["type"] not in types:
        raise ValueError(f"it names the type {node['type']}, which is none of the method's")
    return types[node["type"]](**{name: decoded(value, tensors, types) for name, value in node["fields"].items()})


def types_in(module: str, owner: str = "") -> StateTypes:
    """The dataclasses at the top level of an imported module, by ``owner.Name``, or by ``Name`` without an owner."""
    defined = vars(sys.modules[module]).values()
    kinds = [one for one in defined if isinstance(one, type) and dataclasses.is_dataclass(one)]
    return {f"{owner}.{kind.__name__}".lstrip("."): kind for kind in kinds if kind.__module__ == module}
