"""Tiered methods that form teams anew after every round, with a server that draws and is told: h-SGD with both."""

from dataclasses import dataclass, replace

from strata.algorithms.hsgd import Hsgd, Model
from strata.engine.method.messages import ClientResult
from strata.engine.seeding import generator


class Regrouping(Hsgd):
    """Each round the teams' members move on by one; teams are sent noise of their own beside the model."""

    regroups = tells_teams = True

    def regroup(self, g, topology, context):
        everyone = sorted(client for members in topology.values() for client in members)
        shift = context.round % len(everyone)
        moved, first, formed = everyone[shift:] + everyone[:shift], 0, {}
        for team, members in topology.items():
            formed[team] = moved[first : first + len(members)]
            first += len(members)
        return formed

    def to_team(self, g, info, assignment, context):
        drawn = float(generator(context.seed, "noise", info.id).normal(0, 0.01))
        noise = assignment.get("noise", drawn)
        return Model({name: value + noise for name, value in g.params.items()})

    def global_step(self, g, ups, context):
        after = super().global_step(g, ups, context)
        factor = 1 + 1e-3 * (context.seed % 2)  # a coin thrown by the server
        return replace(after, params={name: factor * value for name, value in after.params.items()})


@dataclass(frozen=True)
class Calls:
    """Private state of a client: how often it has trained."""

    number: int = 0


class Remembering(Regrouping):
    """Clients that send the more of what they have trained, the more often they have."""

    stateless = False

    def init_client(self, info, seed):
        return Calls()

    def client_step(self, info, state, down, context):
        made = yield from super().client_step(info, None, down, context)
        number = state.number + 1
        params = {
            name: down.params[name] + number * (value - down.params[name]) for name, value in made.up.params.items()
        }
        return ClientResult(Model(params), Calls(number))


METHOD = Regrouping
