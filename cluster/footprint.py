"""How much memory this process has taken."""

import sys
from contextlib import suppress


def peak_bytes() -> int | None:
    """The most memory that this process has had so far; None on systems that do not say."""
    with suppress(ImportError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return None
