"""RLlib policies that decide for federated methods: modules, learners, the training loop.

:func:`from_rllib` writes what RLlib's own training loop has learnt as agents for runs.
"""

from typing import TYPE_CHECKING

import strata.engine.runtime  # noqa: F401  # before Ray, which most modules here import
from strata.engine.lazy import lazily

if TYPE_CHECKING:
    from strata.agents.stock import from_rllib

__all__ = ["from_rllib"]

__getattr__ = lazily(__name__, {"from_rllib": "strata.agents.stock"})
