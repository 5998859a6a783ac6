"""A method's generator driven by a trainer to its end; a set of a dozen rows to train on."""

import numpy as np

from strata.engine.data.dataset import ClientData, Dataset
from strata.engine.training.conversation import Conversation
from strata.engine.training.conversation import drive as drive_conversation
from strata.engine.training.sequential import Sequential

NOBODY = np.zeros(0, np.int64)

D, K, N = 5, 3, 12
RNG = np.random.default_rng(0)
DATA = Dataset("toy", RNG.normal(size=(N, D)).astype("f4"), np.arange(N) % K, K)
ROWS = np.arange(N)


def lead(trainer, steps, train, test, seed, where, validation=None):
    """What the generator returned, and the work counted."""
    held = ClientData(train, test, NOBODY if validation is None else validation)
    return drive_conversation(trainer, Conversation(steps, held, seed, where))


def ask(request, seed=1, trainer=None, rows=ROWS):
    """The answer to one request of a client, and the work counted."""

    def steps():
        return (yield request)

    return lead(trainer or Sequential(DATA), steps(), rows, rows[:6], seed, "client 3 (team 1), round 7")
