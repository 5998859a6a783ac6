"""What a client call is charged: its virtual seconds, and whether the client is lost on its way.

Where clients share their server's link, a call is charged first as if it had that to itself, and may be lost by
dropping out alone; how long it takes beside the others, and who has gone off by then, is found where these are known.
"""

import math
from collections.abc import Mapping

from strata.engine.clock.delays import call_timing, drops_out
from strata.engine.clock.devices import Profile
from strata.engine.method.calls import LOST, OK, PROBE, Call
from strata.engine.method.requests import Work
from strata.engine.rounds.pools import ClientCall
from strata.engine.rounds.world import World
from strata.engine.tree import count_bytes


def charge(
    world: World, call: ClientCall, bytes_down: int, bytes_up: int, work: Work, metrics: Mapping[str, float]
) -> Call:
    """Account for one client call, made or only priced: its virtual seconds by phase, and whether the client is lost.

    The seconds of a lost client end when it is lost; it uploads nothing, and its loss is NaN. A probe is never lost.

    Args:
        world: gives the client's profile, its server's link, and the seed.
        call: whose, and when; the draws are its own.
        bytes_down: that the client is sent.
        bytes_up: that it sends unless it is lost.
        work: FLOPs, samples, steps and loss of the call.
        metrics: what the client reports, by name.
    """
    profile, key = world.profiles[call.client], (call.round, call.team_round, call.client)
    timing = call_timing(profile, world.link(call.team), bytes_down, bytes_up, work.flops, world.seed, key)
    may_be_lost = (profile.dropout > 0 or world.presence is not None) and not call.probe
    lost_after_s = _lost_after_s(world, call, profile, key, timing.total_s) if may_be_lost else None
    if lost_after_s is not None:
        timing = timing.cut(lost_after_s)
    return Call(
        call.client,
        call.team,
        call.team_round,
        profile.device,
        PROBE if call.probe else OK if lost_after_s is None else LOST,
        bytes_down,
        bytes_up if lost_after_s is None else 0,
        work.flops,
        work.samples,
        work.steps,
        *timing,
        math.nan if work.loss is None or lost_after_s is not None else work.loss,
        metrics,
    )


def bytes_down(world: World, call: ClientCall) -> int:
    """Bytes that a client is sent with a call; a probe goes through no stages."""
    return count_bytes(call.down) if call.probe else world.wire.bytes_down(call.down, _cohort(world, call))


def bytes_up(world: World, call: ClientCall, up: object) -> int:
    """Bytes of what a client sends after a call, as it is made or received: both are of equal shapes."""
    return count_bytes(up) if call.probe else world.wire.bytes_up(up, _cohort(world, call))


def _cohort(world: World, call: ClientCall) -> int:
    return world.cohort(call.team) if world.wire.secure_bits else 0  # which alone depends on it


def _lost_after_s(
    world: World, call: ClientCall, profile: Profile, key: tuple[int, int, int], total_s: float
) -> float | None:
    """Virtual seconds of a call after which its client is lost, by dropping out or by going off; None: it is not."""
    share = drops_out(profile, world.seed, key)
    dropped_s = math.inf if share is None else share * total_s
    off_s = math.inf if world.shares(call.team) else off_after_s(world, call.client, call.virtual_s)
    if share is None and off_s >= total_s:
        return None
    return min(dropped_s, off_s)


def off_after_s(world: World, client: int, virtual_s: float) -> float:
    """Seconds after which a client goes off that is called at a virtual second; infinite where it never does."""
    return math.inf if world.presence is None else world.presence.off_after_s(client, virtual_s)
