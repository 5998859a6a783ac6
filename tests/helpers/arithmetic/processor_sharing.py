"""Transfers that share a server's link, from event to event: a simulation of all calls, apart from the engine's."""

from dataclasses import dataclass


@dataclass
class Sent:
    """A call in a simulation of its own: seconds and bytes left by phase, and how long each phase took."""

    client: int
    begins_s: float
    left: list
    own: tuple
    off_s: float
    spent: list
    ends_s: float | None = None

    @property
    def phase(self):
        return next((phase for phase in range(4) if self.left[phase] > 1e-9 * (1 + 1e4 * (phase % 2))), 4)

    def speed(self, sharing, rates):
        if self.phase % 2 == 0:
            return 1.0
        return min(self.own[self.phase // 2], rates[self.phase // 2] / sharing[self.phase])


def simulate(calls, rates):
    """From event to event of one server's link, from the first call on; ``rates``: down and up, in bytes per second."""
    now = 0.0
    while waiting := [call for call in calls if call.ends_s is None]:
        live = [call for call in waiting if call.begins_s <= now]
        for call in live:
            if call.phase == 4 or call.off_s <= now:
                call.ends_s = now
        live = [call for call in live if call.ends_s is None]
        sharing = [sum(call.phase == phase for call in live) for phase in range(4)]
        speeds = [call.speed(sharing, rates) for call in live]
        ends = [now + call.left[call.phase] / speed for call, speed in zip(live, speeds, strict=True)]
        later = [call.begins_s for call in waiting if call.begins_s > now]
        instants = [*ends, *later, *(call.off_s for call in live)]
        if not instants:
            continue
        then = min(instants)
        for call, speed in zip(live, speeds, strict=True):
            call.spent[call.phase] += then - now
            call.left[call.phase] -= (then - now) * speed
        now = then
    return calls
