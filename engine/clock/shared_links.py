"""A server's link that its transfers share: each gets an equal part of the rate, by the events of the virtual clock.

While n transfers are under way, each goes on at the lower of its client's own rate and an n-th of the server's; what a
slow client cannot use is not given to others. Parts change when a transfer begins or ends, and at no other moment.

# C calls
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.delays import Timing
from strata.engine.clock.devices import Profile

Floats = NDArray[np.float64]


def side_by_side(timings: Sequence[Timing], profiles: Sequence[Profile], parent: Profile) -> list[Timing]:
    """Calls that begin together, as they are when their server's link is shared among them.

    Downloads share one direction of the link and uploads the other. A call that was cut short is so at the same point
    of its work.

    Args:
        timings: of each call with a link of its own.
        profiles: of the clients, in the same order.
        parent: the server.
    """
    if not timings:
        return []
    latency, down, compute, up = np.array(
        [(one.latency_s, one.download_s, one.compute_s, one.upload_s) for one in timings]
    ).T
    down_rates = np.array([profile.down_bytes_per_s for profile in profiles])
    up_rates = np.array([profile.up_bytes_per_s for profile in profiles])
    down = shared_s(latency, down, down_rates, parent.up_bytes_per_s)
    up = shared_s(latency + down + compute, up, up_rates, parent.down_bytes_per_s)
    return [Timing(*map(float, phases)) for phases in zip(latency, down, compute, up, strict=True)]


def shared_s(begins_s: Floats, alone_s: Floats, own_rates: Floats, rate: float) -> Floats:
    """Virtual seconds that transfers take which share a link, ``(C,)``.

    Args:
        begins_s: when each begins, ``(C,)``.
        alone_s: seconds that each takes with the link to itself, ``(C,)``.
        own_rates: bytes per second that the other end of each can do, ``(C,)``.
        rate: bytes per second of the link; infinite: nobody is in another's way.
    """
    if np.isinf(rate):
        return alone_s
    left, took = alone_s.copy(), np.zeros(len(alone_s))
    alone_rates, starts = np.minimum(own_rates, rate), np.unique(begins_s)
    now = 0.0
    while (waiting := left > 0).any():
        active = waiting & (begins_s <= now)
        later = starts[starts > now]
        if not active.any():
            now = float(begins_s[waiting].min())
            continue
        pace = np.minimum(own_rates[active], rate / active.sum()) / alone_rates[active]
        ends = left[active] / pace
        next_s = float(later[0]) if len(later) else np.inf
        step = min(float(ends.min()), next_s - now)
        took[active] += step
        left[active] = np.where(ends <= step, 0.0, left[active] - step * pace)
        now = next_s if now + step >= next_s else now + step
    return took
