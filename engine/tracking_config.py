"""The ``tracking`` part of the configuration."""

from dataclasses import dataclass
from typing import Literal

from engine.options import option


@dataclass(frozen=True)
class TrackingConfig:
    """Weights & Biases."""

    wandb: Literal["auto", "online", "offline", "disabled"] = option(
        "auto", "auto: online when a key is configured, offline otherwise"
    )
