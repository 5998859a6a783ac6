"""The link of a server that its children's transfers share: how long their calls take beside each other."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from strata.engine.clock.delays import Timing, transfer_s
from strata.engine.clock.shared_links import Floats, Going, SharedLink, gone_on
from strata.engine.method.calls import LOST
from strata.engine.rounds.accounts import off_after_s
from strata.engine.rounds.pools import ClientReply, TeamCall, TeamReply
from strata.engine.rounds.schedules import R
from strata.engine.rounds.world import World
from strata.engine.tree import count_bytes


class Link(Protocol[R]):
    """The link of one server to its children."""

    def alone(self, reply: R) -> Timing:
        """The virtual seconds of a call by phase, with the link to itself."""

    def off_after_s(self, child: int, virtual_s: float) -> float:
        """Seconds after which a child goes off that is called at a virtual second; infinite where it never does."""

    def gone_on(self, children: Sequence[int], going: Sequence[Going], stops_s: Floats) -> Sequence[Going]:
        """Calls of children as they are when each has ended or was stopped; see :func:`.shared_links.gone_on`."""

    def ended(self, reply: R, going: Going) -> R:
        """A reply with the virtual seconds that its call took; its child is lost if that was stopped before its end."""


class ClientLink:
    """The link of a team's server, or of the global one (NO_TEAM), to its clients: a :class:`Link`."""

    def __init__(self, world: World, team: int) -> None:
        """``team`` is that of the server."""
        self._world, self._server = world, world.link(team)

    def alone(self, reply: ClientReply) -> Timing:
        """The virtual seconds of a client's call by phase, as it was charged."""
        call = reply.call
        return Timing(call.latency_s, call.download_s, call.compute_s, call.upload_s)

    def off_after_s(self, child: int, virtual_s: float) -> float:
        """Seconds after which a client goes off that is called at a virtual second; infinite where it never does."""
        return off_after_s(self._world, child, virtual_s)

    def gone_on(self, children: Sequence[int], going: Sequence[Going], stops_s: Floats) -> Sequence[Going]:
        """Calls of clients as they are when each has ended or was stopped."""
        return gone_on(going, [self._world.profiles[client] for client in children], self._server, stops_s)

    def ended(self, reply: ClientReply, going: Going) -> ClientReply:
        """A reply with the virtual seconds that its call took; the client is lost if it was stopped before its end."""
        call = reply.call._replace(**going.spent._asdict())
        if going.is_over:
            return replace(reply, call=call)
        return replace(reply, up=None, call=call._replace(status=LOST, bytes_up=0, loss=math.nan))


class TeamLink:
    """The link of the global server to its teams, whose rounds lie between their two transfers: a :class:`Link`."""

    def __init__(self, world: World) -> None:
        """Take the rates of the global server and of its teams from ``world``."""
        self._top, self._own = world.server_profile, world.team_profile

    def _alone(self, bytes_down: int, rounds_s: float, bytes_up: int) -> Timing:
        down_s = transfer_s(bytes_down, self._own.down_bytes_per_s, self._top.up_bytes_per_s)
        up_s = transfer_s(bytes_up, self._own.up_bytes_per_s, self._top.down_bytes_per_s)
        return Timing(self._own.latency_s, down_s, rounds_s, up_s)

    def alone(self, reply: TeamReply) -> Timing:
        """The virtual seconds of a team's global round by phase."""
        return self._alone(reply.bytes_down, reply.rounds_s, reply.bytes_up)

    def downloads_s(self, calls: Sequence[TeamCall]) -> Sequence[float]:
        """How long each of some teams receives, ``(C,)``, that are called together."""
        going = [Going.begun(self._alone(count_bytes(call.down), 0.0, 0)) for call in calls]
        ended = self.gone_on([call.team for call in calls], going, np.full(len(calls), np.inf))
        return [one.spent.download_s for one in ended]

    def off_after_s(self, child: int, virtual_s: float) -> float:
        """Infinite: no team server ever goes off."""
        return math.inf

    def gone_on(self, children: Sequence[int], going: Sequence[Going], stops_s: Floats) -> Sequence[Going]:
        """Calls of teams as they are when each has ended or was stopped."""
        return gone_on(going, [self._own] * len(children), self._top, stops_s)

    def ended(self, reply: TeamReply, going: Going) -> TeamReply:
        """A reply with the virtual seconds that its team took."""
        return replace(reply, seconds=going.spent.total_s)


def link_of(world: World, team: int) -> ClientLink | None:
    """The link of a team's server, or of the global one (NO_TEAM), to its clients; None where these do not share it."""
    return ClientLink(world, team) if world.shares(team) else None


def together_on(link: Link[R] | None, replies: Sequence[R], virtual_s: float) -> Sequence[R]:
    """The replies of children that a server called together, as they are where they share its link.

    Args:
        link: None where each has it to itself.
        replies: as if each child had the link to itself.
        virtual_s: virtual clock when they were called.
    """
    if link is None:
        return replies
    children = [reply.sender for reply in replies]
    stops_s = np.array([link.off_after_s(child, virtual_s) for child in children])
    going = link.gone_on(children, [Going.begun(link.alone(reply)) for reply in replies], stops_s)
    return [link.ended(reply, one) for reply, one in zip(replies, going, strict=True)]


def shared_link(world: World) -> SharedLink | None:
    """What is known of the link that clients share with others of their server; None where each has it to itself."""
    team = int(world.team_of[0])  # all are in one, or nobody is
    return SharedLink(world.profiles, world.link(team), world.team_of) if world.shares(team) else None
