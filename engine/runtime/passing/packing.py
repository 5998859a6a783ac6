"""Messages as they pass between processes: in a few bytes for Ray, what is large lent by the one to the other.

Two processes find out by what they say of themselves whether they see each other's memory; as long as they do not
know, and where they do not, messages pass through Ray's object store.
"""

import copyreg
import io
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray import ObjectRef, cloudpickle
from torch import Tensor

from strata.engine.runtime.passing.segments import Lending, Loan, Segments, is_there

INLINE_BYTES = 100_000  # what is larger is not sent beside a call; Ray's own limit for inlined arguments


class Packed(NamedTuple):
    """A message pickled, with the memory of its arrays apart: here, or lent."""

    body: bytes
    buffers: Sequence[pickle.PickleBuffer] = ()
    loan: Loan | None = None


@dataclass(frozen=True)
class Slot:
    """Stands in a message for something that travels beside it, once, however often it is meant: the ``index``-th."""

    index: int


def packed(message: object) -> Packed:
    """A message without its arrays, and these as they lie in memory; tensors as arrays in CPU memory."""
    # Pickle takes a fourth of the time of cloudpickle, which sends what is of a script or a notebook, or has no name.
    with suppress(pickle.PicklingError, AttributeError, TypeError):
        made = _pickled(pickle.Pickler, message)
        if b"__main__" not in made.body:
            return made
    return _pickled(cloudpickle.CloudPickler, message)


def _pickled(kind: Callable[..., Any], message: object) -> Packed:
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickler = kind(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    pickler.dispatch_table = {**getattr(pickler, "dispatch_table", copyreg.dispatch_table), **_REDUCED}
    pickler.dump(message)
    return Packed(file.getvalue(), buffers)


def unpacked(message: Packed, beside: Sequence[object] = ()) -> object:
    """The message again, ``beside`` in the place of its slots.

    Arrays that were lent, or lie in Ray's object store, are only read; tensors are on the CPU, and may be written to.

    Raises:
        ClusterError: when what was lent is not there any more.
    """
    buffers = message.buffers if message.loan is None else SEGMENTS.borrow(message.loan)
    return _Unpickler(message.body, buffers, beside).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, body: bytes, buffers: Sequence[Any], beside: Sequence[object]) -> None:
        super().__init__(io.BytesIO(body), buffers=buffers)
        self._beside = beside

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name == _filled.__name__:
            return self._beside.__getitem__
        return super().find_class(module, name)


def _filled(index: int) -> object:
    """What a slot stands for; only who unpacks the message knows it."""
    raise LookupError(index)


def _tensor(array: NDArray[np.generic]) -> Tensor:
    """A tensor again, on the array's memory where that may be written to, else on a copy."""
    # What is lent, or comes out of Ray's object store, is a read-only view: torch would let a method write to it.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _as_array(tensor: Tensor) -> tuple[object, ...]:
    return _tensor, (tensor.detach().cpu().numpy(),)


_REDUCED = {Tensor: _as_array, torch.nn.Parameter: _as_array, Slot: lambda slot: (_filled, (slot.index,))}


class Outgoing:
    """A message to one or several others: packed once, and laid down once in each kind of memory that they see."""

    def __init__(self, message: object) -> None:
        """Pack it; its arrays must stay as they are until it was sent."""
        self._packed = packed(message)
        self._views = [buffer.raw() for buffer in self._packed.buffers]
        self._is_large = sum(map(len, self._views)) > INLINE_BYTES
        self._lending: Lending | None = None
        self._stored: ObjectRef[Packed] | None = None

    def to(self, near: bool) -> Packed | None:
        """What one more receives that is ``near``, or not: sees what is lent here. None: it is too large to be sent."""
        if not self._is_large:
            return self._packed
        if not near:
            return None
        if self._lending is None:
            self._lending = SEGMENTS.lend(self._views)
        loan = None if self._lending is None else self._lending.loan()
        return None if loan is None else Packed(self._packed.body, (), loan)

    def to_actor(self, near: bool) -> "Packed | ObjectRef[Packed]":
        """What an actor is sent, or where in Ray's object store it fetches it."""
        sent = self.to(near)
        if sent is not None:
            return sent
        if self._stored is None:
            self._stored = ray.put(self._packed)
        return self._stored

    def to_asker(self, near: bool) -> Packed:
        """What is sent back; Ray puts what is large into its object store."""
        return self.to(near) or self._packed


class Greeting(NamedTuple):
    """What a process says of itself to an actor that it asks, or an actor to who asked it."""

    actor: str
    sign: Loan | None
    """Seen by whoever sees what it lends; None: it lends nothing."""
    sees: bool
    """Whether it sees what the other lends."""

    def returned(self) -> "Greeting":
        """What the actor says."""
        return Greeting(self.actor, SEGMENTS.sign, _sees(self))


class Reply(NamedTuple):
    """What an actor answers."""

    message: Packed
    greeting: Greeting


SEGMENTS = Segments()
_sights: dict[str, bool] = {}  # whether a sign is seen, by its name
_met: dict[str, Greeting] = {}  # what actors said of themselves last


def greeting_to(actor: str) -> Greeting:
    """What this process says to an actor that it asks something."""
    return Greeting(actor, SEGMENTS.sign, actor in _met and _sees(_met[actor]))


def is_near(actor: str) -> bool:
    """Whether an actor is known to see what this process lends."""
    return actor in _met and _met[actor].sees


def read(reply: Reply) -> object:
    """What an actor answered.

    Raises:
        ClusterError: when its process ended, and its answer with it.
    """
    _met[reply.greeting.actor] = reply.greeting
    return unpacked(reply.message)


def _sees(greeting: Greeting) -> bool:
    sign = greeting.sign
    if sign is None:
        return False
    if sign.name not in _sights:
        _sights[sign.name] = is_there(sign)
    return _sights[sign.name]
