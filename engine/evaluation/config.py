"""The group ``evaluation`` of the configuration."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from strata.engine.errors import ConfigError
from strata.engine.evaluation.measures import KNOWN
from strata.engine.options import Validated, option

PersonalName = Literal["none", "last", "tuned"]
MetricName = Literal["macro_f1", "confusion", "auc"]

RESERVED = ("accuracy", "loss", "mean", "std", "worst_decile", "clients", "hurt", "confusion", "headline", "measures")
"""Names that no metric of one's own can have: they are those of something else where results are kept."""

AUC = "strata.engine.evaluation.measures:auc"

OF_METHODS = ("evaluation.personal", "evaluation.tuned.epochs")
"""Keys that only methods without personal models take, so that methods which are compared may differ in them."""


@dataclass(frozen=True)
class TunedConfig:
    """The group ``evaluation.tuned``: how clients fine-tune the global model, with ``evaluation.personal=tuned``."""

    epochs: int = option(1, "personal=tuned: passes over a client's training rows, by its method's own optimiser", ge=1)


@dataclass(frozen=True)
class EvaluationConfig(Validated):
    """The group ``evaluation``: in which rounds models are evaluated, on whose data, which, and by what."""

    every: int = option(1, "evaluate every so many global rounds, and after the last; 0: not by rounds", ge=0)
    every_s: float = option(
        0.0, "also at the first end of a round after each multiple of so many virtual seconds; 0: never", ge=0
    )
    clients: Any = option("all", "clients evaluated each time, drawn anew from the seed; all: everybody")
    batch_size: int = option(1024, "samples per forward pass", ge=1)
    personal: PersonalName = option(
        "none",
        "personal models (PM) of methods without: last, each client's last trained model; tuned, the global model "
        "fine-tuned on its training rows, of which nothing is kept; none",
    )
    tuned: TunedConfig = option(TunedConfig(), "fine-tuning before an evaluation")
    unseen: float = option(
        0.0, "share of the clients, drawn from the seed, that never train and are evaluated apart", ge=0, lt=1
    )
    metrics: list[MetricName] = option(
        [],
        "beside accuracy and loss: macro_f1; auc, the area under ROC, one class against the rest; confusion, the last "
        "evaluation's matrices, as confusion.json",
    )
    own_metrics: dict[str, str] = option(
        {}, "metrics of your own by name, package.module:function of a client's outputs and targets, both tensors"
    )

    headline: str = option(
        "",
        "the measure by which models are compared, runs end and clients are hurt: another of the task's, such as "
        "macro_f1 or mae, or of own_metrics, of which more is better; empty: the task's first",
    )

    def validate(self, path: str) -> None:
        """A number of clients is a whole one, a metric is named once, and the headline is measured."""
        check_count(f"{path}clients", self.clients, "all")
        if len(set(self.metrics)) != len(self.metrics):
            raise ConfigError(f"{path}metrics={self.metrics}: every metric may be named once.")
        taken = {*RESERVED, *KNOWN}
        for name in self.own_metrics:
            if not re.fullmatch(r"[a-z]\w*", name) or name in taken:
                raise ConfigError(
                    f"{path}own_metrics: {name!r} cannot be the name of a metric of one's own. Expected lower-case "
                    "letters, digits and _, and none of the names of Strata's own measures."
                )
        if self.headline and self.headline not in (measures := [*KNOWN, *self.own_metrics]):
            raise ConfigError(f"{path}headline={self.headline!r}: expected one of {', '.join(measures)}.")

    @property
    def counts_pairs(self) -> bool:
        """Whether evaluations count which class was taken for which."""
        return bool({"macro_f1", "confusion"} & {*self.metrics, self.headline})

    def further(self, always_auc: bool) -> tuple[tuple[str, str], ...]:
        """Metrics that are computed client by client, by name, each as ``module:function``."""
        auc = (("auc", AUC),) if always_auc or "auc" in (*self.metrics, self.headline) else ()
        return (*auc, *self.own_metrics.items())

    def unseen_of(self, clients: int) -> int:
        """How many of so many clients never train: the share, rounded, and at least one where it is not 0."""
        return max(1, round(self.unseen * clients)) if self.unseen else 0


def check_count(key: str, value: object, word: str) -> None:
    """Refuse what is neither ``word`` nor a whole number ≥ 1.

    Raises:
        ConfigError: naming the key and its value.
    """
    if value != word and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{key}={value!r}: expected {word} or a whole number ≥ 1.")
