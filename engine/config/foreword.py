"""What a run says of itself before its first round: what its numbers are of, where that may be meant otherwise."""

from collections.abc import Iterator

from strata.engine.config.schema import RunConfig
from strata.engine.data.coverage import coverage
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.rounds.world import World

LOOKED_AT = 1000
"""Clients whose classes are looked at, the first ones: a run of a million begins no later for it."""

PERSONAL = {
    "last": "PM is the model that each client last trained, and the global model before its first call",
    "tuned": "PM is the global model, fine-tuned for {epochs} on each client's training rows; none of its FLOPs and "
    "seconds are charged",
}


def foreword(config: RunConfig, world: World) -> Iterator[str]:
    """Lines for people, one for each thing that is to be known of a run's numbers."""
    plan, clients = config.evaluation, len(world.data.clients)
    yield from _of_transport(config, world)
    if config.runtime == "inprocess" and config.ray.address:
        yield (
            f"ray.address={config.ray.address}: with runtime=inprocess all is done in this process, and no cluster is "
            "joined; runtime=ray joins it"
        )
    if world.evaluated_clients is not None:
        yield (
            f"evaluation.clients={plan.clients}: accuracies are those of so many of the {len(world.seen)} clients, "
            "drawn anew each time"
        )
    if world.unseen:
        kinds = "GM, TM, PM" if isinstance(world.algorithm, TieredAlgorithm) else "GM, PM"
        yield (
            f"evaluation.unseen={plan.unseen:g}: {len(world.unseen)} of {clients} clients never train; they are scored "
            f"apart (unseen {kinds}), and are in no other number"
        )
    if plan.personal != "none":
        epochs = f"{plan.tuned.epochs} epoch{'s' * (plan.tuned.epochs > 1)}"
        yield f"evaluation.personal={plan.personal}: {PERSONAL[plan.personal].format(epochs=epochs)}"
    if world.algorithm.validates and not config.data.validation_fraction:
        yield (
            f"data.validation_fraction=0: no rows are held out, so the validation accuracies that {config.algorithm} "
            "weighs with are accuracies on training rows; data.validation_fraction=0.1 holds a tenth of them out"
        )
    # A population of which few are evaluated is left as it is: rows are split when somebody needs them.
    if world.evaluated_clients is None and (told := coverage(world.data, LOOKED_AT).told()):
        yield told


def _of_transport(config: RunConfig, world: World) -> Iterator[str]:
    if world.attackers:
        yield (
            f"attacks.share={config.attacks.share:g}: {len(world.attackers)} of {len(world.seen)} clients attack "
            f"({config.attacks.kind}); they are evaluated like all others"
        )
    if world.wire.secure_bits:
        yield (
            "transport.up: the bytes of secure aggregation are reckoned, and nothing is masked: results are those "
            "without it"
        )
    if world.privacy is not None:
        yield world.privacy.told(config.rounds)
