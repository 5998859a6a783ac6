"""FedDdrl: FedAvg whose server drops clients and sets the local epochs of the rest, by two value-decomposition agents.

"FedDdrl: Federated Double Deep Reinforcement Learning for Heterogeneous IoT with Adaptive Early Client Termination and
Local Epoch Adjustment", Sensors 23(5), 2494, 2023 (doi 10.3390/s23052494).

Symbols
    k           invited clients
    w, w_k      global model (GM); client k's model after its local epochs
    E_k         local epochs of client k
    Δacc        gain of the global model's accuracy
    w_T, w_C    costs of latency and of uploads

Per round
    1. probe    clients never measured train w for one epoch
    2. agents   one drops clients, the other then picks E_k of the rest from a menu
                (:mod:`strata.algorithms.controls.selection`); each is a value-decomposition network Q = Σ_k Q_k,
                learnt by RLlib
    3. client   w_k ← E_k epochs of SGD from w
    4. server   w ← Σ_k (n_k / n) w_k over those that were kept
    reward      10 · Δacc − w_T · latency − w_C · uploads, for both agents

Deviations: no balanced-MixUp of the training data; the probe is trained once per client, not in every round and not as
the first of its epochs, because later calls renew the measurement.

Choices of ours, which no source states: the menu 3, 5, 7; the weights 10, w_T and w_C; latency counts relative to that
of the round with everyone at the default epochs, uploads relative to k; where everybody would be dropped, nobody is;
observations (see there).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from strata.algorithms.controls.selection import Prices, SelectionControl
from strata.algorithms.fedavg import FedAvg, FedAvgConfig
from strata.engine.errors import ConfigError
from strata.engine.options import option


@dataclass(frozen=True)
class FedDdrlConfig(FedAvgConfig):
    """Settings of FedDdrl; ``epochs`` (or ``steps``) is what clients do where no agent decides."""

    epochs: int = option(5, "passes over the client's data where no agent picks them, and steps is 0", ge=0)
    menu: list[int] = option([3, 5, 7], "epochs (or steps, where steps > 0) that the second agent picks from", ge=1)
    accuracy_reward: float = option(10.0, "worth of the accuracy's gain in the reward", ge=0)
    latency_cost: float = option(1.0, "w_T: cost of the round's seconds, relative to the default round's", ge=0)
    upload_cost: float = option(0.1, "w_C: cost of keeping every invited client; of fewer, their share", ge=0)

    def validate(self, path: str) -> None:
        """Check the menu of local work."""
        super().validate(path)
        if sorted(set(self.menu)) != list(self.menu) or not self.menu:
            raise ConfigError(f"{path}menu={list(self.menu)}: expected whole numbers in ascending order, each once.")


class DdrlControl(SelectionControl):
    """The decisions of selection and epochs, learnt by value decomposition."""

    learner: ClassVar[Literal["ppo", "vdn"]] = "vdn"

    def options(self) -> Sequence[int]:
        """The configured menu of local work."""
        return list(self.method.config.menu)

    def prices(self) -> Prices:
        """The prices of a reward: 10 for accuracy, w_T for latency, w_C for uploads."""
        config = self.method.config
        return Prices(config.accuracy_reward, config.latency_cost, config.upload_cost)


class FedDdrl(FedAvg):
    """FedDdrl: FedAvg whose cohort and local work two agents decide."""

    Config = FedDdrlConfig
    Control = DdrlControl
    config: FedDdrlConfig


METHOD = FedDdrl
