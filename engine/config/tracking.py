"""The ``tracking`` part of the configuration."""

from dataclasses import dataclass
from typing import Literal

from strata.engine.options import option


@dataclass(frozen=True)
class TrackingConfig:
    """The group ``tracking``: whether and under which names a run is logged to Weights & Biases."""

    wandb: Literal["auto", "online", "offline", "disabled"] = option(
        "auto", "auto: online when a key is configured, offline otherwise; WANDB_MODE in the environment is respected"
    )
    project: str = option("strata", "project the runs appear in")
    entity: str = option("", "user or team that owns the project; empty: the key's default")
    group: str = option("", "group of runs, e.g. one experiment over several seeds; empty: none")
    name: str = option("", "name of the run; empty: the name of its folder")
    tags: list[str] = option([], "tags of the run")
    artifacts: bool = option(False, "also store the last checkpoint and the agents as artifacts, at the end of a run")
    sinks: list[str] = option(
        [], "more sinks, by name: csv, tensorboard, or those that other packages bring; `strata list` shows them"
    )
    per_client: bool = option(False, "also log tables with every client call and every client's accuracy")
