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
    from strata.engine.method.losses import Batch, cross_entropy
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
        Evaluate,
        Evaluation,
        Pull,
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
    from strata.engine.params import Params, flatten, uniform_mean, weighted_mean
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
    "Decisions",
    "Evaluate",
    "Evaluation",
    "FeatureModel",
    "Federation",
    "FlatAlgorithm",
    "Joint",
    "Length",
    "LocalSgd",
    "LocalTraining",
    "ModelSpec",
    "Params",
    "Pull",
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
    "to_yaml",
    "uniform_mean",
    "weighted_mean",
]

HOMES = {
    "AdamW": "engine.method.requests",
    "AgentSpec": "engine.method.control",
    "Assignment": "engine.method.messages",
    "Batch": "engine.method.losses",
    "CallTable": "engine.method.calls",
    "ClientInfo": "engine.method.messages",
    "ClientResult": "engine.method.messages",
    "ClientStep": "engine.method.messages",
    "Context": "engine.method.messages",
    "Control": "engine.method.control",
    "Decisions": "engine.method.situation",
    "Evaluate": "engine.method.requests",
    "Evaluation": "engine.method.requests",
    "FeatureModel": "engine.models.base",
    "Federation": "engine.federation",
    "FlatAlgorithm": "engine.method.algorithm",
    "Joint": "engine.models.spec",
    "Length": "engine.method.length",
    "LocalSgd": "engine.method.local",
    "LocalTraining": "engine.method.local",
    "ModelSpec": "engine.models.spec",
    "Params": "engine.params",
    "Pull": "engine.method.requests",
    "Received": "engine.method.messages",
    "Report": "engine.method.situation",
    "Represent": "engine.method.requests",
    "Represented": "engine.method.requests",
    "RoundRecord": "engine.rounds.records",
    "RunConfig": "engine.config.schema",
    "Scores": "engine.rounds.records",
    "Sgd": "engine.method.requests",
    "Situation": "engine.method.situation",
    "StrataError": "engine.errors",
    "StrataWarning": "engine.errors",
    "TeamInfo": "engine.method.messages",
    "TieredAlgorithm": "engine.method.algorithm",
    "Train": "engine.method.requests",
    "Trained": "engine.method.requests",
    "build_world": "engine.build",
    "cross_entropy": "engine.method.losses",
    "fingerprint": "engine.tree",
    "flatten": "engine.params",
    "init_params": "engine.models.base",
    "load_config": "engine.config.load",
    "load_method": "engine.method.find",
    "method_names": "engine.method.find",
    "option": "engine.options",
    "require_cohort": "engine.method.messages",
    "to_yaml": "engine.config.load",
    "uniform_mean": "engine.params",
    "weighted_mean": "engine.params",
}

__getattr__ = lazily(__name__, HOMES)


def __dir__() -> list[str]:
    return __all__
