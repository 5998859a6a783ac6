"""HAPFL small enough that a round takes milliseconds."""

HAPFL = (
    "model=mlp",
    "model.hidden=[16]",
    "data.limit=400",
    "clients.count=8",
    "clients.participation=0.5",
    "partition=labels",
    "method.epochs=2",
    "method.batch_size=16",
    "evaluation.every=1",
    "delays.availability=1",
)
EVERY = "clients.participation=1"


def arguments(fidelity="timing", *overrides, **changes):
    """Arguments of an environment."""
    return {"method": "hapfl", "overrides": [*HAPFL, *overrides], "fidelity": fidelity, "rounds": 3, **changes}
