"""Which types the states of a run may hold, and under which names they are kept."""

from typing import Any

from strata.engine.clock.delays import Timing
from strata.engine.clock.shared_links import Going
from strata.engine.evaluation.personal import Kept
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.length import Length
from strata.engine.method.situation import Decisions
from strata.engine.state.archive import Archived
from strata.engine.state.encoding import types_in
from strata.engine.state.snapshot import Aloft, Flying, Saved, Snapshot, Underway
from strata.engine.transport.service import Owing


def state_types(method: Algorithm[Any, Any, Any, Any]) -> dict[str, type]:
    """What a checkpoint may hold: the engine's own states, and those of the method and of its base classes.

    A method's are called after its class, ``FedAvg.Global``, whatever module that is in.
    """
    own = (Snapshot, Saved, Archived, Length, Aloft, Flying, Going, Timing, Underway, Decisions, Kept, Owing)
    types: dict[str, type] = {kind.__name__: kind for kind in own}
    for kind in type(method).__mro__:
        if kind.__module__ not in ("abc", "builtins", "typing"):
            types |= {name: one for name, one in types_in(kind.__module__, kind.__name__).items() if name not in types}
    return types
