"""Per-FedAvg, first order: a model that is good after a step of descent on a client's data.

Fallah et al., "Personalized Federated Learning: A Meta-Learning Approach", NeurIPS 2020 (arXiv 2002.07948).

Per step: θ = w_k − α ∇f_k(w_k; batch 1);  w_k ← w_k − β ∇f_k(θ; batch 2).  Then w ← mean_k w_k.
PM = w after a step of α on a batch of the client's own training data.

Deviations: the term with the Hessian is left out, as in the paper's FO variant.
"""

from dataclasses import dataclass, replace

from strata.engine import (
    ClientResult,
    Evaluate,
    FlatAlgorithm,
    Length,
    LocalSgd,
    Params,
    Sgd,
    Train,
    init_params,
    option,
    require_cohort,
    uniform_mean,
)


@dataclass(frozen=True)
class PerFedAvgConfig(LocalSgd):
    alpha: float = option(0.01, "α: step size ahead, and of the step that makes a personal model; β is lr", gt=0)


@dataclass(frozen=True)
class Model:
    w: Params


class PerFedAvg(FlatAlgorithm):
    Config = PerFedAvgConfig
    has_personal_model = True  # made when a client is evaluated; nothing of it is kept
    stateless = True

    def init_global(self, seed):
        return Model(init_params(self.model, seed))

    def to_client(self, g, info, assignment):
        return g

    def client_step(self, info, state, down, context):
        request = self.config.train(self.model, down.w, self.config.length)
        trained = yield replace(request, look_ahead=self.config.alpha)
        return ClientResult(Model(trained.params), None)

    def global_step(self, g, ups, context):
        require_cohort("Per-FedAvg", ups)
        return Model(uniform_mean([up.message.w for up in ups]))

    def global_model(self, g):
        return g.w

    def client_evaluate(self, info, state, shared):
        w, own = shared["GM"], self.config
        tuned = yield Train(self.model, w, Sgd(own.alpha), own.batch_size, Length(steps=1))
        whole = yield Evaluate(self.model, w)
        personal = yield Evaluate(self.model, tuned.params)
        return {"GM": whole, "PM": personal}


METHOD = PerFedAvg
