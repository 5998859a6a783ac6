"""Probes: clients' speed assessed before a round."""

from collections.abc import Sequence

from strata.engine.data.dataset import IntArray
from strata.engine.rounds.pools import ClientCall, ClientPool, ClientReply, Failure
from strata.engine.rounds.world import World


def probe_calls(world: World, clients: Sequence[int], g: object, round: int, team_of: IntArray) -> list[ClientCall]:
    """The calls that assess the speed of clients before a round; they come before its first team round.

    ``team_of`` has the team of each client as it is now, ``(N,)``, or :data:`~strata.engine.method.calls.NO_TEAM`.

    Raises:
        ValueError: when the method has no probe.
    """
    down = world.algorithm.probe(g)
    if down is None:
        raise ValueError(f"{type(world.algorithm).__name__} has no probe")
    return [ClientCall(c, int(team_of[c]), round, 0, {}, down, probe=True) for c in clients]


def probed(
    world: World, pool: ClientPool, clients: Sequence[int], g: object, round: int, team_of: IntArray
) -> list[ClientReply]:
    """Let clients make their probes of the method before a round; gives the replies, in the order of ``clients``.

    Args:
        world: the run.
        pool: reaches the clients.
        clients: their ids.
        g: the global state, from which the method makes the probe.
        round: the round to come.
        team_of: the team of each client as it is now, ``(N,)``.

    Raises:
        StrataError: what broke the first probe that broke.
        ValueError: when the method has no probe.
    """
    made = {}
    for result in pool.results(pool.submit(probe_calls(world, clients, g, round, team_of))):
        if isinstance(result, Failure):
            raise result.error
        made[result.client] = result
    return [made[client] for client in clients]
