"""What a federation counts over its rounds, beside what these are of themselves; and how it is started again."""

import pytest

from strata.engine import federation as module
from strata.engine.errors import ResourceError, SlowStartError
from strata.engine.federation import Federation
from tests.helpers.small import small


def test_requests_that_were_answered_one_by_one_are_counted_once_though_their_rounds_are_made_again(tmp_path):
    lines = []
    words = ("rounds=4", "clients.count=3", "training.batch_clients=4", "evaluation.every=0")
    with Federation(small("fedproto", *words), lines.append) as federation:  # whose features are averaged one by one
        counted = []
        for _ in range(3):
            federation.run_round()
            counted.append(sum(federation.singly.values()))
            if federation.round == 1:
                saved = federation.save(tmp_path)
        assert 0 < counted[0] < counted[1] < counted[2]
        federation.restore(saved)
        federation.run_round()
        federation.restart()
        federation.restore(saved)
        for _ in range(2):
            federation.run_round()
            assert sum(federation.singly.values()) == counted[2]
        federation.run_round()
        assert sum(federation.singly.values()) > counted[2]
    assert sum("are answered client by client" in line for line in lines) == 1


@pytest.mark.parametrize(("error", "tried"), [(ResourceError, [2, "auto"]), (SlowStartError, [2])])
def test_what_does_not_fit_any_more_is_packed_and_what_is_slow_is_not(monkeypatch, error, tried):
    packed = []

    def start(config, world, notify, before):
        packed.append(config.clients_per_actor)
        raise error("no")

    with Federation(small("fedavg", "clients_per_actor=2")) as federation:
        monkeypatch.setattr(module, "_start", start)
        with pytest.raises(error):
            federation.restart()
    assert packed == tried
