"""Lines for people about what is being done."""

from collections.abc import Callable

Notify = Callable[[str], None]
"""Takes a line about what is being done, for people."""


class Step(str):
    """A line about what begins now and may take seconds: of interest until the next line comes."""

    __slots__ = ()
