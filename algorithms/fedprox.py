"""FedProx: FedAvg with a proximal term that keeps clients near the global model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (arXiv 1812.06127), algorithm 2.

Symbols: as in :mod:`strata.algorithms.fedavg`, and μ, the strength of the proximal term.

Per round: w_k ← argmin-by-SGD of f_k(w_k) + μ/2 ‖w_k − w‖², started from w;  w ← Σ_k (n_k / n) w_k.

Deviations: the weights of the average are n_k/n, as in FedAvg, over a cohort drawn uniformly (the paper's theory draws
clients with probability n_k/n and averages them uniformly; its experiments use either). μ = 0 is FedAvg. Agents can
choose who takes part and for how long, as in :mod:`strata.algorithms.fedavg`.
"""

from dataclasses import dataclass

from strata.algorithms.fedavg import Down, FedAvg, FedAvgConfig
from strata.engine.method.requests import Pull
from strata.engine.options import option


@dataclass(frozen=True)
class FedProxConfig(FedAvgConfig):
    """Settings of FedProx."""

    mu: float = option(0.01, "strength μ of the proximal term; 0 is FedAvg", ge=0)


class FedProx(FedAvg):
    """FedProx: FedAvg with a proximal term."""

    Config = FedProxConfig
    config: FedProxConfig

    def pull(self, down: Down) -> tuple[Pull, ...]:
        """μ/2 ‖w_k − w‖²."""
        return (Pull(down.w, self.config.mu),) if self.config.mu else ()


METHOD = FedProx
