"""Lines for people about what is being done."""

from collections.abc import Callable

Notify = Callable[[str], None]
"""Takes a line about what is being done, for people."""
