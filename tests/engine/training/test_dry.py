"""What requests would cost, without training."""

from collections import Counter

import numpy as np
import pytest

from strata.engine.method.length import Length
from strata.engine.method.requests import Evaluate, Evaluation, Represent, Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.batches import plan_batches
from strata.engine.training.dry import Dry, batch_sizes
from strata.engine.training.sequential import Sequential
from strata.engine.tree import fingerprint
from tests.helpers.training import DATA, D, K, ask

MODEL = ModelSpec("mclr", (D,), K)
START = init_params(MODEL, 0)
LENGTHS = [Length(epochs=1), Length(epochs=3), Length(steps=1), Length(steps=5), Length(steps=23)]


def train(batch_size=5, length=LENGTHS[1], **changes):
    return Train(MODEL, START, Sgd(0.1), batch_size, length, **changes)


@pytest.mark.parametrize("length", LENGTHS, ids=str)
@pytest.mark.parametrize("repeat", [False, True])
def test_sizes_are_those_of_the_batches_that_training_would_see(length, repeat):
    for n in range(1, 14):
        for batch_size in (1, 4, 5, 13, 20):
            request = train(batch_size, length, repeat_batch=repeat)
            planned = Counter(len(positions) for positions in plan_batches(n, request, seed=n))
            assert batch_sizes(n, request) == planned, (n, batch_size)


def test_training_costs_its_batches_and_gives_the_start():
    # 12 rows by 5: two batches of 5 and one of 2, three times over. A step of a linear model is two products of
    # 2·B·D·K: forwards, and for its weights; its inputs are data.
    answer, work = ask(train(), trainer=Dry(DATA))
    assert fingerprint(answer.params) == fingerprint(START)
    assert answer.loss == 0.0
    assert (work.steps, work.samples, work.flops) == (9, 3 * 12, 3 * 12 * 2 * 2 * D * K)


def test_it_costs_what_training_does():
    for length in LENGTHS:
        _, dry = ask(train(length=length), trainer=Dry(DATA))
        _, real = ask(train(length=length), trainer=Sequential(DATA))
        assert (dry.steps, dry.samples, dry.flops) == (real.steps, real.samples, real.flops)


def test_an_evaluation_finds_nothing_right_and_costs_nothing():
    answer, work = ask(Evaluate(MODEL, START), trainer=Dry(DATA))  # on the first six rows
    assert answer == Evaluation(0, 6, 0.0)
    assert work.flops == 0


def test_features_are_real_because_messages_may_depend_on_them():
    model = ModelSpec("mlp", (D,), K, (("hidden", (4,)),))
    request = Represent(model, init_params(model, 0))
    (dry, dry_work), (real, real_work) = (ask(request, trainer=one(DATA)) for one in (Dry, Sequential))
    assert fingerprint((dry.classes, dry.means, dry.counts)) == fingerprint((real.classes, real.means, real.counts))
    assert dry.counts.tolist() == np.bincount(DATA.y).tolist()
    assert dry_work.flops == real_work.flops == 12 * 2 * D * 4
