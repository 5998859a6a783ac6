"""Whether there are memory and time for what is about to be made: refused with the figure, before it is made."""

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from strata.engine.errors import ResourceError

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory the processes of a container may have; a number, or ``max``."""


PATIENCE_S = 86400.0
"""How long something may take that nothing is heard of meanwhile, such as a round."""


@cache
def machine_bytes() -> float:
    """Memory of this machine, or of the container that this process is in; infinite where nobody says."""
    found = [math.inf]
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for place in LIMITS:
        with suppress(ValueError, OSError):
            found.append(int(Path(place).read_text()))
    return min(found)


def require_memory(needed_bytes: float, what: str, remedy: str) -> None:
    """Refuse what this machine has not the memory for.

    Args:
        needed_bytes: how much it takes.
        what: it is, for the error.
        remedy: what to do about it.

    Raises:
        ResourceError: with both figures.
    """
    if needed_bytes > machine_bytes():
        raise ResourceError(
            f"{what}: that takes {_written(needed_bytes)} of memory, and this machine has {_written(machine_bytes())}. "
            f"{remedy}"
        )


def require_time(least_s: float, what: str, remedy: str) -> None:
    """Refuse what nobody waits for.

    Args:
        least_s: wall seconds that it takes at least, on any machine.
        what: it is, for the error.
        remedy: what to do about it.

    Raises:
        ResourceError: with the figure.
    """
    if least_s > PATIENCE_S:
        raise ResourceError(f"{what}: that takes {least_s / 86400:,.1f} days or more, on any machine. {remedy}")


def _written(count: float) -> str:
    """``16.8 GB``; beyond exabytes as a power of ten."""
    for power, unit in ((3, "kB"), (6, "MB"), (9, "GB"), (12, "TB"), (15, "PB")):
        if count < 10 ** (power + 3):
            return f"{count / 10**power:.3g} {unit}"
    return f"10^{math.floor(math.log10(count))} bytes"
