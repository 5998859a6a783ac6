"""What a server makes of the mean of its clients' models: it takes the mean, or steps towards it by an optimiser.

Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar and McMahan, "Adaptive Federated Optimization", ICLR 2021
(arXiv 2003.00295), algorithm 2; with momentum: Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data
Distribution for Federated Visual Classification", 2019 (arXiv 1909.06335), FedAvgM.

Symbols
    w, w̄    global model, and the mean Σ_k (n_k / n) w_k over the cohort
    Δ       w̄ − w, the negative of what the optimiser takes for a gradient
    m, v    running means of Δ, and of its squares
    η_g     step size of the server ("server_lr")
    τ       bound on how adaptive steps are

    mean      w ← w + η_g Δ, which is w̄ for η_g = 1
    momentum  m ← β1 m + Δ;  w ← w + η_g m
    others    m ← β1 m + (1 − β1) Δ;  w ← w + η_g m / (√v + τ), where
              adagrad  v ← v + Δ²
              adam     v ← β2 v + (1 − β2) Δ²
              yogi     v ← v − (1 − β2) Δ² sign(v − Δ²)

Of the papers: m begins at 0, v at τ²; neither is corrected for its beginning; β1 is 0.9 (0 for adagrad), β2 0.99 and
τ 0.001. Choices of ours: η_g where it is not given, which the paper tunes by task; Δ weighs clients by samples, as
FedAvg does and the printed algorithm 2 does not; what is no parameter (batch norm's statistics) takes the mean.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.method.local import LocalSgd
from strata.engine.models.base import Buildable
from strata.engine.options import option
from strata.engine.params import Params


@dataclass(frozen=True)
class Averaged:
    """A server's model w, and beside it m and v of its parameters; both empty where the optimiser has none."""

    w: Params
    m: Params
    v: Params


@dataclass(frozen=True)
class AveragingConfig(LocalSgd):
    """Local SGD under a server that averages."""

    server: Literal["mean", "momentum", "adagrad", "adam", "yogi"] = option(
        "mean", "what the server does: takes the mean of the models, or steps towards it by this optimiser"
    )
    server_lr: float | None = option(
        None, "η_g: step size of the server; null: 1 for mean and momentum, 0.01 for the others", gt=0
    )
    beta1: float | None = option(
        None, "β1: share kept of the server's mean of changes; null: 0.9, and 0 for adagrad", ge=0, lt=1
    )
    beta2: float = option(0.99, "β2: share kept of the mean of squared changes, of adam and yogi", ge=0, lt=1)
    tau: float = option(1e-3, "τ: how adaptive a server's steps are at most, of adagrad, adam and yogi", gt=0)

    def validate(self, path: str) -> None:
        """Refuse a momentum that would have no effect."""
        super().validate(path)
        if self.server == "mean" and self.beta1 is not None:
            raise ConfigError(
                f"{path}beta1={self.beta1:g}: a server that takes the mean keeps no mean of changes. Leave it out, or "
                f"set {path}server to momentum, adagrad, adam or yogi."
            )

    @property
    def adapts(self) -> bool:
        """Whether the server divides its steps by a running mean of squares."""
        return self.server in ("adagrad", "adam", "yogi")

    @property
    def eta(self) -> float:
        """The step size η_g of the server."""
        if self.server_lr is not None:
            return self.server_lr
        return 0.01 if self.adapts else 1.0

    @property
    def kept(self) -> float:
        """The share β1 that is kept of the mean of changes."""
        if self.beta1 is not None:
            return self.beta1
        return 0.0 if self.server == "adagrad" else 0.9

    def begun(self, model: Buildable, w: Params) -> Averaged:
        """A server's model before the first round."""
        if self.server == "mean":
            return Averaged(w, {}, {})
        with torch_scope(0):  # what is built draws values, of which only the names are used
            names = [name for name, _ in model.build().named_parameters()]
        m = {name: torch.zeros_like(w[name]) for name in names}
        return Averaged(w, m, {name: torch.full_like(w[name], self.tau**2) for name in names} if self.adapts else {})

    def stepped(self, before: Averaged, mean: Params) -> Averaged:
        """The server's model after it has met the mean w̄; ``before`` is not changed."""
        if self.server == "mean":
            return replace(before, w=mean if self.eta == 1 else self._towards(before.w, mean))
        share = 1 - self.kept if self.adapts else 1.0
        change = {name: mean[name] - before.w[name] for name in before.m}
        m = {name: self.kept * value + share * change[name] for name, value in before.m.items()}
        v = {name: self._squares(value, change[name] ** 2) for name, value in before.v.items()}
        step = {name: value / (v[name].sqrt() + self.tau) for name, value in m.items()} if self.adapts else m
        moved = {name: before.w[name] + self.eta * value for name, value in step.items()}
        return Averaged({name: moved.get(name, value) for name, value in mean.items()}, m, v)

    def _towards(self, w: Params, mean: Params) -> Params:
        return {name: torch.lerp(value, mean[name], self.eta) for name, value in w.items()}

    def _squares(self, v: Tensor, squares: Tensor) -> Tensor:
        if self.server == "adagrad":
            return v + squares
        if self.server == "adam":
            return self.beta2 * v + (1 - self.beta2) * squares
        return v - (1 - self.beta2) * squares * torch.sign(v - squares)
