"""Which class was taken for which: both trainers count it where they are asked, as one reads it off the model."""

from collections import Counter

import numpy as np
import pytest
import torch

from strata.engine.data.dataset import Dataset
from strata.engine.determinism import single_thread
from strata.engine.method.requests import Evaluate, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.batched import Batched
from strata.engine.training.modules import filled
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked

SHAPE, K = (1, 6, 6), 4
RNG = np.random.default_rng(3)
DATA = Dataset("made", RNG.normal(size=(200, *SHAPE)).astype(np.float32), RNG.integers(0, K, 200), K)
MODEL = ModelSpec("mclr", SHAPE, K)
ROWS = [RNG.choice(200, size, replace=False) for size in (30, 7, 64, 1)]


def asked(pairs):
    starts = [init_params(MODEL, client) for client in range(len(ROWS))]
    return [
        Asked(Evaluate(MODEL, start, pairs=pairs), rows, 0, "", Work())
        for start, rows in zip(starts, ROWS, strict=True)
    ]


def expected(client):
    model = filled(MODEL, init_params(MODEL, client)).eval()
    predicted = model(torch.from_numpy(DATA.x[ROWS[client]])).argmax(1).tolist()
    counted = Counter(zip(DATA.y[ROWS[client]].tolist(), predicted, strict=True))
    return tuple((*pair, count) for pair, count in sorted(counted.items()))


@pytest.mark.parametrize("kind", [Sequential, Batched])
@pytest.mark.parametrize("batch", [10, 1000])
def test_pairs_are_what_the_model_says(kind, batch):
    with single_thread():
        answers = kind(DATA, evaluation_batch=batch).answer(asked(True))
        plain = kind(DATA, evaluation_batch=batch).answer(asked(False))
    assert [answer.pairs for answer in answers] == [expected(client) for client in range(len(ROWS))]
    for answer, other in zip(answers, plain, strict=True):
        assert sum(count for true, predicted, count in answer.pairs if true == predicted) == answer.correct
        assert (answer.correct, answer.loss_sum) == (other.correct, other.loss_sum)
        assert other.pairs == ()


@pytest.mark.parametrize("pairs", [[True, False], [False, True]])
def test_who_is_beside_does_not_matter(pairs):
    requests = [asked(one)[0] for one in pairs]
    with single_thread():
        answers = Batched(DATA).answer(requests)
    assert [bool(answer.pairs) for answer in answers] == pairs
