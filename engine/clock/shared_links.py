"""A server's link that its transfers share: each gets an equal part of the rate, by the events of the virtual clock.

While n transfers are under way, each goes on at the lower of its child's own rate and an n-th of the server's; what a
slow child cannot use is not given to others. Parts change when a transfer begins or ends, and at no other moment.
Downloads share one direction of the link and uploads the other.

# C calls
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.delays import Timing
from strata.engine.clock.devices import Profile

Floats = NDArray[np.float64]

NOTHING = Timing(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Going:
    """A call at some moment, on a link that others share.

    Attributes:
        whole: virtual seconds of its phases with the link to itself; one that is cut short is so in these.
        spent: virtual seconds that its phases have taken so far.
        left: what is left of ``whole``.
    """

    whole: Timing
    spent: Timing
    left: Timing

    @classmethod
    def begun(cls, whole: Timing) -> "Going":
        """A call of which nothing has happened yet."""
        return cls(whole, NOTHING, whole)

    def corrected(self, whole: Timing) -> "Going":
        """The same, whose phases turn out to be longer than was thought."""
        pairs = zip(self.left, whole, self.whole, strict=True)
        return Going(whole, self.spent, Timing(*(left + (now - before) for left, now, before in pairs)))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self.left.total_s == 0

    @property
    def uploads(self) -> bool:
        """Whether nothing is left of it but its upload, or not even that."""
        return self.left.latency_s + self.left.download_s + self.left.compute_s == 0

    @property
    def until_upload_s(self) -> float:
        """Virtual seconds that its phases before its upload have taken so far."""
        return self.spent.latency_s + self.spent.download_s + self.spent.compute_s


def gone_on(going: Sequence[Going], profiles: Sequence[Profile], parent: Profile, stops_s: Floats) -> list[Going]:
    """Calls as they are when each has ended or was stopped, where no other begins meanwhile.

    Args:
        going: as they are now.
        profiles: of the server's children, in the same order.
        parent: the server.
        stops_s: virtual seconds from now after which each is stopped, ``(C,)``; infinite: it is not.
    """
    if not going:
        return []
    latency, down, compute, up = np.array([one.left for one in going]).T
    down_rates = np.array([profile.down_bytes_per_s for profile in profiles])
    up_rates = np.array([profile.up_bytes_per_s for profile in profiles])
    waited = np.minimum(latency, stops_s)
    downloaded, down_left = shared_s(latency, down, down_rates, parent.up_bytes_per_s, stops_s)
    there = latency + downloaded
    computed = np.where(down_left > 0, 0.0, np.clip(stops_s - there, 0.0, compute))
    begins = np.where((down_left > 0) | (computed < compute), np.inf, there + compute)
    uploaded, up_left = shared_s(begins, up, up_rates, parent.down_bytes_per_s, stops_s)
    spent = np.array([one.spent for one in going]) + np.stack([waited, downloaded, computed, uploaded], 1)
    left = np.stack([latency - waited, down_left, compute - computed, up_left], 1)
    return [
        Going(one.whole, Timing(*so_far), Timing(*rest))
        for one, so_far, rest in zip(going, spent.tolist(), left.tolist(), strict=True)
    ]


def shared_s(
    begins_s: Floats, alone_s: Floats, own_rates: Floats, rate: float, stops_s: Floats
) -> tuple[Floats, Floats]:
    """Virtual seconds that transfers take which share a link, ``(C,)``, and what is then left of ``alone_s``, ``(C,)``.

    Args:
        begins_s: when each begins, ``(C,)``; infinite: it does not.
        alone_s: seconds that each takes with the link to itself, ``(C,)``.
        own_rates: bytes per second that the other end of each can do, ``(C,)``.
        rate: bytes per second of the link; infinite: nobody is in another's way.
        stops_s: when each is stopped, if it has not ended before, ``(C,)``; infinite: it is not.
    """
    begins = begins_s < stops_s
    if np.isinf(rate):
        took = np.minimum(alone_s, np.where(begins, stops_s - np.where(begins, begins_s, 0.0), 0.0))
        return took, alone_s - took
    left, took = alone_s.copy(), np.zeros(len(alone_s))
    alone_rates, events = np.minimum(own_rates, rate), np.unique(np.concatenate([begins_s, stops_s]))
    now = 0.0
    while (waiting := begins & (left > 0) & (now < stops_s)).any():
        active = waiting & (begins_s <= now)
        later = events[events > now]
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
    return took, left


@dataclass(frozen=True)
class SharedLink:
    """The link of servers of one tier, each to its own clients, as whoever foresees what calls take knows it.

    Attributes:
        profiles: of all clients, by id.
        parent: of the servers.
        team_of: the server of each client, ``(N,)``, by client id.
    """

    profiles: Sequence[Profile]
    parent: Profile
    team_of: NDArray[np.int64]

    def s_per_byte(self, clients: Sequence[int]) -> tuple[Floats, Floats]:
        """Seconds per byte down and up of some clients with the link to themselves, ``(k,)`` each."""
        down = [min(self.profiles[client].down_bytes_per_s, self.parent.up_bytes_per_s) for client in clients]
        up = [min(self.profiles[client].up_bytes_per_s, self.parent.down_bytes_per_s) for client in clients]
        return 1 / np.array(down), 1 / np.array(up)

    def total_s(self, clients: Sequence[int], phases_s: Floats) -> Floats:
        """Virtual seconds of calls of some clients that begin together, ``(k,)``.

        Args:
            clients: their ids.
            phases_s: of each call with the link to itself, ``(k, 4)``, in the order of a :class:`Timing`.
        """
        total, servers = np.zeros(len(clients)), self.team_of[list(clients)]
        for server in np.unique(servers):
            own = np.flatnonzero(servers == server).tolist()
            going = [Going.begun(Timing(*phases)) for phases in phases_s[own].tolist()]
            profiles = [self.profiles[clients[place]] for place in own]
            ended = gone_on(going, profiles, self.parent, np.full(len(own), np.inf))
            total[own] = [one.spent.total_s for one in ended]
        return total
