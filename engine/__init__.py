"""The simulator: tiers, rounds, clock, data, models, training, states and configuration. It knows no method by name.

What a notebook needs is here, :class:`Federation` and :func:`load_config`, and what the author of a method needs: the
two interfaces, messages, requests, configuration of local training, means of parameters. Names are imported when they
are used.
"""

from typing import TYPE_CHECKING

from strata.engine.lazy import lazily

if TYPE_CHECKING:
    from strata.engine.build import build_world
    from strata.engine.config.load import load_config, to_yaml
    from strata.engine.config.schema import RunConfig
    from strata.engine.errors import StrataError, StrataWarning
    from strata.engine.federation import Federation
    from strata.engine.method.algorithm import FlatAlgorithm, TieredAlgorithm
    from strata.engine.method.calls import CallTable
    from strata.engine.method.control import AgentSpec, Control
    from strata.engine.method.find import load_method, method_names
    from strata.engine.method.length import Length
    from strata.engine.method.local import LocalSgd, LocalTraining
    from strata.engine.method.losses import Batch, cross_entropy, target_loss, task_loss
    from strata.engine.method.messages import (
        Assignment,
        ClientInfo,
        ClientResult,
        ClientStep,
        Context,
        Received,
        TeamInfo,
        require_cohort,
    )
    from strata.engine.method.requests import (
        AdamW,
        Cosine,
        Evaluate,
        Evaluation,
        Gradient,
        Linear,
        MeanGradient,
        Pull,
        Recalibrate,
        Recalibrated,
        Represent,
        Represented,
        Sgd,
        Train,
        Trained,
    )
    from strata.engine.method.situation import Decisions, Report, Situation
    from strata.engine.models.base import FeatureModel, init_params
    from strata.engine.models.spec import Joint, ModelSpec
    from strata.engine.options import option
    from strata.engine.params import Params, flatten, unflatten, uniform_mean, weighted_mean
    from strata.engine.rounds.records import RoundRecord, Scores
    from strata.engine.tree import fingerprint

__all__ = [
    "AdamW",
    "AgentSpec",
    "Assignment",
    "Batch",
    "CallTable",
    "ClientInfo",
    "ClientResult",
    "ClientStep",
    "Context",
    "Control",
    "Cosine",
    "Decisions",
    "Evaluate",
    "Evaluation",
    "FeatureModel",
    "Federation",
    "FlatAlgorithm",
    "Gradient",
    "Joint",
    "Length",
    "Linear",
    "LocalSgd",
    "LocalTraining",
    "MeanGradient",
    "ModelSpec",
    "Params",
    "Pull",
    "Recalibrate",
    "Recalibrated",
    "Received",
    "Report",
    "Represent",
    "Represented",
    "RoundRecord",
    "RunConfig",
    "Scores",
    "Sgd",
    "Situation",
    "StrataError",
    "StrataWarning",
    "TeamInfo",
    "TieredAlgorithm",
    "Train",
    "Trained",
    "build_world",
    "cross_entropy",
    "fingerprint",
    "flatten",
    "init_params",
    "load_config",
    "load_method",
    "method_names",
    "option",
    "require_cohort",
    "target_loss",
    "task_loss",
    "to_yaml",
    "unflatten",
    "uniform_mean",
    "weighted_mean",
]

HOMES = {
    "AdamW": "strata.engine.method.requests",
    "Linear": "strata.engine.method.requests",
    "Cosine": "strata.engine.method.requests",
    "AgentSpec": "strata.engine.method.control",
    "Assignment": "strata.engine.method.messages",
    "Batch": "strata.engine.method.losses",
    "CallTable": "strata.engine.method.calls",
    "ClientInfo": "strata.engine.method.messages",
    "ClientResult": "strata.engine.method.messages",
    "ClientStep": "strata.engine.method.messages",
    "Context": "strata.engine.method.messages",
    "Control": "strata.engine.method.control",
    "Decisions": "strata.engine.method.situation",
    "Evaluate": "strata.engine.method.requests",
    "Evaluation": "strata.engine.method.requests",
    "FeatureModel": "strata.engine.models.base",
    "Federation": "strata.engine.federation",
    "FlatAlgorithm": "strata.engine.method.algorithm",
    "Gradient": "strata.engine.method.requests",
    "Joint": "strata.engine.models.spec",
    "Length": "strata.engine.method.length",
    "LocalSgd": "strata.engine.method.local",
    "LocalTraining": "strata.engine.method.local",
    "MeanGradient": "strata.engine.method.requests",
    "ModelSpec": "strata.engine.models.spec",
    "Params": "strata.engine.params",
    "Pull": "strata.engine.method.requests",
    "Received": "strata.engine.method.messages",
    "Report": "strata.engine.method.situation",
    "Recalibrate": "strata.engine.method.requests",
    "Recalibrated": "strata.engine.method.requests",
    "Represent": "strata.engine.method.requests",
    "Represented": "strata.engine.method.requests",
    "RoundRecord": "strata.engine.rounds.records",
    "RunConfig": "strata.engine.config.schema",
    "Scores": "strata.engine.rounds.records",
    "Sgd": "strata.engine.method.requests",
    "Situation": "strata.engine.method.situation",
    "StrataError": "strata.engine.errors",
    "StrataWarning": "strata.engine.errors",
    "TeamInfo": "strata.engine.method.messages",
    "TieredAlgorithm": "strata.engine.method.algorithm",
    "Train": "strata.engine.method.requests",
    "Trained": "strata.engine.method.requests",
    "build_world": "strata.engine.build",
    "cross_entropy": "strata.engine.method.losses",
    "fingerprint": "strata.engine.tree",
    "flatten": "strata.engine.params",
    "init_params": "strata.engine.models.base",
    "load_config": "strata.engine.config.load",
    "load_method": "strata.engine.method.find",
    "method_names": "strata.engine.method.find",
    "option": "strata.engine.options",
    "require_cohort": "strata.engine.method.messages",
    "target_loss": "strata.engine.method.losses",
    "task_loss": "strata.engine.method.losses",
    "to_yaml": "strata.engine.config.load",
    "unflatten": "strata.engine.params",
    "uniform_mean": "strata.engine.params",
    "weighted_mean": "strata.engine.params",
}

__getattr__ = lazily(__name__, HOMES)


def __dir__() -> list[str]:
    return __all__
