"""What makes two runs one: all that enters a result, and none of the placement."""

import hashlib
import json

from strata.engine.config.load import to_dict
from strata.engine.config.schema import RunConfig
from strata.engine.method.length import Length
from strata.engine.rounds.world import Method, World
from strata.engine.state.checkpoint import types_in
from strata.engine.state.snapshot import Saved, Snapshot


def state_types(method: Method) -> dict[str, type]:
    """What a checkpoint may hold: the engine's own states, and those of the method and of its base classes.

    A method's are called after its class, ``FedAvg.Global``, whatever module that is in.
    """
    types: dict[str, type] = {"Snapshot": Snapshot, "Saved": Saved, "Length": Length}
    for kind in type(method).__mro__:
        if kind.__module__ not in ("abc", "builtins", "typing"):
            types |= {name: one for name, one in types_in(kind.__module__, kind.__name__).items() if name not in types}
    return types


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
    "training",  # but for whether clients are answered together, see below
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
    if world.batch_clients > 1:  # how many at once leaves the bits alone
        plain["batched"] = True
    text = json.dumps(plain, sort_keys=True, default=str)
    return {
        "algorithm": config.algorithm,
        "seed": str(config.seed),
        "configuration": hashlib.sha256(text.encode()).hexdigest()[:16],
        "data": world.fingerprint[:16],
    }
