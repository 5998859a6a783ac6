"""Methods whose servers compute: FedAvg and h-SGD that train a step on the servers' own rows."""

from strata.algorithms.fedavg import FedAvg
from strata.algorithms.hsgd import Hsgd
from strata.engine.method.length import Length
from strata.engine.method.requests import Evaluate, Sgd, Train


class Tuned(FedAvg):
    """FedAvg, and a step of the server."""

    def global_step(self, g, ups, context):
        """The mean, after a step on the server's rows."""
        mean = super().global_step(g, ups, context)
        found = yield Evaluate(self.model, mean.w, split="train")
        assert found.samples
        trained = yield Train(self.model, mean.w, Sgd(0.05), 8, Length(steps=2))
        return type(g)(trained.params)


class TunedTeams(Hsgd):
    """h-SGD, and a step of each team server."""

    def team_step(self, team, ups, context):
        """The mean, after a step on the servers' rows."""
        mean = super().team_step(team, ups, context)
        trained = yield Train(self.model, mean.params, Sgd(0.05), 8, Length(steps=1))
        return type(mean)(trained.params)
