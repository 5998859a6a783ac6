"""What makes two runs one: all that enters a result, and none of the placement."""

import json
from collections.abc import Collection, Iterator, Mapping

from strata.engine.config.load import to_dict
from strata.engine.config.schema import RunConfig
from strata.engine.rounds.world import World

# What decides where and how fast a run is computed, or how far, and never what comes out.
PLACEMENT_KEYS = (
    "output",
    "runtime",
    "clients_per_actor",
    "ray",
    "tracking",
    "checkpoint",
    "state",
    "on_failure",
    "faults",
    "rounds",
    "stop",
    "seeds",
    "training",  # but for whether clients are answered together, and in which form, see below
    "server",
    "clients.num_cpus",
    "clients.num_gpus",
    "clients.classes",
    "teams.num_cpus",
    "teams.num_gpus",
    "delays.mode",
    "delays.sleep_scale",
)


# Where files lie. What is in them enters as data, rows, teams and profiles; agents are kept with the checkpoint itself.
FILE_KEYS = (
    "data.root",
    "partition.path",
    "teams.formation.path",
    "delays.devices",
    "delays.trace",
    "delays.availability_trace",
    "agents.checkpoint",
)


def identity(config: RunConfig, world: World) -> dict[str, str]:
    """What must be equal for one run to continue another's checkpoint: all that enters a result, none of the placement.

    Settings by their keys, as JSON; last the data, which may differ because a setting does. The number of rounds is
    left out, so that a finished run can be prolonged (an evaluation after its former last round stays in its metrics).
    Data, rows, teams and profiles enter as they are, not as the names of their files.
    """
    # How many clients are answered at once leaves the bits alone.
    batched = {"training.batched": json.dumps(True)} if world.batch_clients > 1 else {}
    dual = {"training.linear": json.dumps("dual")} if world.dual else {}
    return {**entering(config), **batched, **dual, "data": world.fingerprint[:16]}


def entering(config: RunConfig) -> dict[str, str]:
    """The settings that enter a result, by their keys, as JSON; without the files that they name."""
    plain = to_dict(config)
    first = {"algorithm": plain.pop("algorithm"), "seed": str(plain.pop("seed"))}
    return {**first, **dict(_settings(plain, {*PLACEMENT_KEYS, *FILE_KEYS}))}


def _settings(plain: Mapping[str, object], left_out: Collection[str], path: str = "") -> Iterator[tuple[str, str]]:
    """Each setting's key, in full, and its value as JSON."""
    for name, value in plain.items():
        key = f"{path}{name}"
        if key in left_out:
            continue
        if isinstance(value, Mapping) and value:
            yield from _settings(value, left_out, f"{key}.")
        else:
            yield key, json.dumps(value, sort_keys=True, default=str)
