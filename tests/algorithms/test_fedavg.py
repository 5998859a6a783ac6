"""FedAvg, and FedProx beside it, against numpy, on clients of unequal size."""

import pytest

from tests.helpers.arithmetic.averaging import assert_close, descend, mean, run


@pytest.mark.parametrize(("method", "mu"), [("fedavg", 0.0), ("fedprox", 0.7)])
def test_flat_methods_weight_clients_by_their_samples(method, mu):
    words = ("method.steps=3", *([f"method.mu={mu}"] if mu else []))
    start, end, clients, _ = run(method, *words)
    sizes = [len(y) for _, y in clients.values()]
    assert max(sizes) > 2 * min(sizes)
    w = start
    for _ in range(2):
        w = mean([descend(w, data, 3, mu) for data in clients.values()], sizes)
    assert_close(end, w, start)
