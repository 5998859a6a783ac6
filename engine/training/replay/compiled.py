"""Operations without Python: torch's own interpreter makes them one after the other, while other threads go on.

Python takes two to five microseconds for each of torch's operations, and holds its lock meanwhile; the interpreter
takes one, and holds none. It is that of TorchScript, which torch calls deprecated in favour of its compiler; but that
needs one of C++ wherever Strata runs, and rounds otherwise. Where torch has no such interpreter, Python does as before.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from strata.engine.training.replay.tape import Operation


def compiled(operation: Operation, read: Sequence[Tensor], changed: Sequence[Tensor]) -> Operation:
    """An operation for operands of these shapes as the interpreter makes it.

    It is tried on the operands, and is the operation itself where the interpreter cannot make it, or not to the bit.

    Args:
        operation: what it makes rests on nothing but its operands, and no number in it on a tensor's value.
        read: values of its first operands, which it does not change.
        changed: values of the others, which it may change in place; here they stay as they are.
    """
    expected = _tried(operation, read, changed)
    try:
        # In a thread of its own: where each operation is asked for is noted too, which takes as long as it is deep.
        with ThreadPoolExecutor(1) as thread:
            replay = thread.submit(_replay, operation, (*read, *_copies(changed))).result()
        found = _tried(replay, read, changed)
    except Exception:  # whatever they meet in a model's or a loss's own operations, Python can make it
        return operation
    alike = all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(expected, found, strict=True))
    return replay if alike else operation


@torch.no_grad()
def _replay(operation: Operation, operands: tuple[Tensor, ...]) -> Operation:
    """What the interpreter has noted of an operation, which changes the operands that it is noted with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated, and that numbers are those of these operands
        traced: Operation = torch.jit.trace(operation, operands, check_trace=False)

    def replay(*operands: Tensor) -> Sequence[Tensor]:
        # Not optimised, or it would make other operations of them.
        with torch.no_grad(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            made: Sequence[Tensor] = traced(*operands)
        return made

    return replay


def _tried(operation: Operation, read: Sequence[Tensor], changed: Sequence[Tensor]) -> list[Tensor]:
    """What an operation gives, and what it makes of the operands that it changes."""
    own = _copies(changed)
    with torch.no_grad():
        return [*operation(*read, *own), *own]


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]
