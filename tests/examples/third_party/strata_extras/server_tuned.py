"""FedAvg whose server fine-tunes the mean of the clients' models on a few rows of its own.

After Zhao et al., "Federated Learning with Non-IID Data" (arXiv 1806.00582), who share a small set with everybody.

w ← Σ_k (n_k / n) w_k, then E_s epochs of SGD with learning rate η_s on the server's rows (``data.server_fraction``).

Deviation: clients do not hold the server's rows.
"""

from dataclasses import dataclass

from strata.engine import (
    ClientResult,
    FlatAlgorithm,
    Length,
    LocalSgd,
    Params,
    Sgd,
    Train,
    init_params,
    option,
    require_cohort,
    weighted_mean,
)


@dataclass(frozen=True)
class ServerTunedConfig(LocalSgd):
    server_lr: float = option(0.01, "η_s: learning rate of the server", gt=0)
    server_epochs: int = option(1, "E_s: passes over the server's rows in each round", ge=1)


@dataclass(frozen=True)
class Model:
    w: Params


class ServerTuned(FlatAlgorithm):
    Config = ServerTunedConfig
    stateless = True

    def init_global(self, seed):
        return Model(init_params(self.model, seed))

    def to_client(self, g, info, assignment):
        return g

    def client_step(self, info, state, down, context):
        trained = yield self.config.train(self.model, down.w, self.config.length)
        return ClientResult(Model(trained.params), None)

    def global_step(self, g, ups, context):
        require_cohort("ServerTuned", ups)
        own, mean = self.config, weighted_mean([up.message.w for up in ups], [up.samples for up in ups])
        tuned = yield Train(self.model, mean, Sgd(own.server_lr), own.batch_size, Length(own.server_epochs))
        return Model(tuned.params)

    def global_model(self, g):
        return g.w


METHOD = ServerTuned
