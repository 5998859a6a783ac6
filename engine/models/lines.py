"""Costs that grow by as much with each epoch, or each sample of a batch: few are counted, the others lie on a line."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

C = TypeVar("C")

COUNTED = 3
"""Numbers at which costs are counted before the line over them holds: two for it, one to see that it is one."""


def on_line(counted: Mapping[int, C], number: int, *growing: str) -> C | None:
    """What a number of things costs, given what others do; None where these are fewer than three, or are on no line.

    Args:
        counted: dataclasses by number; the first :data:`COUNTED` of them are looked at.
        number: of things.
        growing: the fields that grow, whole numbers; the others are to be the same.
    """
    if len(counted) < COUNTED:
        return None
    seen = dict(islice(counted.items(), COUNTED))
    (first, some), (second, more), *_ = seen.items()

    def grown(name: str, at: int) -> int:
        least, other = getattr(some, name), getattr(more, name)
        return int(least + (other - least) * (at - first) // (second - first))

    def told(at: int) -> C:
        instance: Any = some
        made: C = replace(instance, **{name: grown(name, at) for name in growing})
        return made

    # The first lies on it by itself.
    return told(number) if all(told(at) == cost for at, cost in islice(seen.items(), 1, None)) else None
