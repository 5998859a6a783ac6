"""Who attacks, what that does to a run, and what bears it."""

import numpy as np
import pytest

from strata.engine.build import build_world
from strata.engine.transport.attacks import attackers
from strata.engine.transport.config import AttacksConfig
from tests.helpers.small import played, small

FLIP = ("attacks.share=0.25", "attacks.kind=label_flip")


def test_attackers_are_drawn_from_the_seed_among_those_that_train():
    config = AttacksConfig(share=0.3)
    found = attackers(config, range(5, 25), 1)
    assert len(found) == 6
    assert found == sorted(set(found))
    assert set(found) <= set(range(5, 25))
    assert found == attackers(config, range(5, 25), 1) != attackers(config, range(5, 25), 2)
    assert attackers(AttacksConfig(), range(20), 1) == []
    assert len(attackers(AttacksConfig(share=0.001), range(20), 1)) == 1


def test_only_attackers_labels_are_flipped_and_only_those_they_train_on():
    clean, flipped = build_world(small("fedavg")), build_world(small("fedavg", *FLIP))
    assert len(flipped.attackers) == 2
    for client in range(8):
        rows, own = clean.data.clients[client], flipped.data.clients[client]
        before, after = clean.data.dataset.y, flipped.data.dataset.y
        assert np.array_equal(rows.train, own.train)
        assert np.array_equal(after[own.test], before[own.test])
        expected = 9 - before[own.train] if client in flipped.attackers else before[own.train]
        assert np.array_equal(after[own.train], expected)
    assert clean.fingerprint != flipped.fingerprint


def test_unseen_clients_do_not_attack():
    world = build_world(small("fedavg", "attacks.share=0.9", "evaluation.unseen=0.25"))
    assert len(world.attackers) == 5  # 0.9 of six, rounded
    assert not set(world.attackers) & set(world.unseen)


SETTING = ("rounds=8", "partition=iid", "data.limit=1200", "method.epochs=2", "evaluation.every=8")


def accuracy(method, *words):
    return played(method, *SETTING, *words)[1][-1].scores["GM"].accuracy


@pytest.mark.parametrize("mean", ["median", "trimmed", "krum", "multi_krum"])
def test_a_robust_mean_bears_what_the_mean_does_not(mean):
    attack = ("attacks.share=0.25", "attacks.kind=sign_flip", "attacks.factor=8")
    undisturbed, broken = accuracy("fedavg"), accuracy("fedavg", *attack)
    robust = accuracy("fedavg", *attack, f"robust.mean={mean}", "robust.share=0.25")
    assert broken < undisturbed - 0.2
    assert robust > undisturbed - 0.1


def test_it_bears_them_within_teams():
    attack = ("attacks.share=0.25", "attacks.kind=scaled", "attacks.factor=30", "method.lr=0.1")
    undisturbed, broken = accuracy("hsgd", "method.lr=0.1"), accuracy("hsgd", *attack)
    robust = accuracy("hsgd", *attack, "robust.mean=median", "clients.participation=1")
    assert robust > max(broken, undisturbed - 0.1)
