"""What a client call is charged: its virtual seconds, and whether the client is lost on its way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from strata.engine.clock.delays import Timing, call_timing, drops_out
from strata.engine.clock.devices import Profile
from strata.engine.clock.shared_links import side_by_side
from strata.engine.method.calls import LOST, NO_TEAM, OK, PROBE, Call
from strata.engine.method.requests import Work
from strata.engine.rounds.pools import ClientCall, ClientReply
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
    parent = world.server_profile if call.team == NO_TEAM else world.team_profile
    timing = call_timing(
        profile, parent, bytes_down=bytes_down, bytes_up=bytes_up, flops=work.flops, seed=world.seed, key=key
    )
    lost_after_s = None if call.probe else _lost_after_s(world, call, profile, timing.total_s)
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
        loss=math.nan if work.loss is None or lost_after_s is not None else work.loss,
        metrics=metrics,
    )


def bytes_down(world: World, call: ClientCall) -> int:
    """Bytes that a client is sent with a call; a probe goes through no stages."""
    return count_bytes(call.down) if call.probe else world.wire.bytes_down(call.down, _cohort(world, call))


def bytes_up(world: World, call: ClientCall, up: object) -> int:
    """Bytes of what a client sends after a call, as it is made or received: both are of equal shapes."""
    return count_bytes(up) if call.probe else world.wire.bytes_up(up, _cohort(world, call))


def _cohort(world: World, call: ClientCall) -> int:
    return world.cohort(call.team) if world.wire.secure_bits else 0  # which alone depends on it


def _lost_after_s(world: World, call: ClientCall, profile: Profile, total_s: float) -> float | None:
    """Virtual seconds of a call after which its client is lost, by dropping out or by going off; None: it is not."""
    share = drops_out(profile, world.seed, (call.round, call.team_round, call.client))
    dropped_s = math.inf if share is None else share * total_s
    off_s = math.inf if world.presence is None else world.presence.off_after_s(call.client, call.virtual_s)
    if share is None and off_s >= total_s:
        return None
    return min(dropped_s, off_s)


def together_in(world: World, team: int, replies: Sequence[ClientReply]) -> Sequence[ClientReply]:
    """The replies of clients that a server called together, as they are where its link is shared among them.

    Args:
        world: says whether links are shared.
        team: of the server; NO_TEAM for the global one.
        replies: as if each client had the link to itself.
    """
    flat = team == NO_TEAM
    if not (world.server_shares if flat else world.team_shares):
        return replies
    calls = [reply.call for reply in replies]
    alone = [Timing(call.latency_s, call.download_s, call.compute_s, call.upload_s) for call in calls]
    profiles = [world.profiles[call.client] for call in calls]
    found = side_by_side(alone, profiles, world.server_profile if flat else world.team_profile)
    return [
        replace(reply, call=reply.call._replace(**timing._asdict()))
        for reply, timing in zip(replies, found, strict=True)
    ]
