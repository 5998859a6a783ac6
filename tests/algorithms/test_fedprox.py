"""FedProx at its limit, where it is FedAvg."""

from strata.engine.federation import Federation
from tests.helpers.small import small


def test_fedprox_without_a_pull_is_fedavg_to_the_bit():
    words = ("method.batch_size=16", "partition=labels")
    prints = []
    for method, more in (("fedavg", ()), ("fedprox", ("method.mu=0",)), ("fedprox", ("method.mu=0.5",))):
        with Federation(small(method, *words, *more)) as federation:
            list(federation)
            prints.append(federation.world.algorithm.global_model(federation.rounds.snapshot().server))
    equal = [all((prints[0][name] == other[name]).all() for name in other) for other in prints]
    assert equal == [True, True, False]
