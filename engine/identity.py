"""What makes two runs one: all that enters a result, and none of the placement."""

import hashlib
import json
from typing import Any

from strata.engine.config.load import to_dict
from strata.engine.config.schema import RunConfig
from strata.engine.method.algorithm import Algorithm
from strata.engine.rounds.world import World


def state_modules(method: Algorithm[Any, Any, Any, Any]) -> frozenset[str]:
    """The modules whose dataclasses a checkpoint may hold: those of the method and of its bases, and the engine's."""
    own = {kind.__module__ for kind in type(method).__mro__} - {"abc", "builtins", "typing"}
    return frozenset(own | {"strata.engine.state.snapshot", "strata.engine.method.length"})


# What decides where and how fast a run is computed, or how far, and never what comes out.
PLACEMENT_KEYS = (
    "output",
    "runtime",
    "clients_per_actor",
    "ray",
    "tracking",
    "checkpoint",
    "rounds",
    "seeds",
    "training",
    "server",
    "clients.num_cpus",
    "clients.num_gpus",
    "clients.classes",
    "teams.num_cpus",
    "teams.num_gpus",
    "delays.mode",
    "delays.sleep_scale",
)


def identity(config: RunConfig, world: World) -> dict[str, str]:
    """What must be equal for one run to continue another's checkpoint: all that enters a result, none of the placement.

    The number of rounds is left out, so that a finished run can be prolonged (an evaluation after its former last round
    stays in its metrics). Data, rows, teams and profiles enter as they are, not as the names of their files.
    """
    plain = to_dict(config)
    for key in PLACEMENT_KEYS:
        *parents, last = key.split(".")
        del (plain[parents[0]] if parents else plain)[last]
    text = json.dumps(plain, sort_keys=True, default=str)
    return {
        "algorithm": config.algorithm,
        "seed": str(config.seed),
        "configuration": hashlib.sha256(text.encode()).hexdigest()[:16],
        "data": world.fingerprint[:16],
    }
