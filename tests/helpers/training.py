"""A method's generator driven by a trainer to its end."""

import numpy as np

from strata.engine.training.conversation import Conversation, Splits
from strata.engine.training.conversation import drive as drive_conversation

NOBODY = np.zeros(0, np.int64)


def lead(trainer, steps, train, test, seed, where, validation=NOBODY):
    """What the generator returned, and the work counted."""
    return drive_conversation(trainer, Conversation(steps, Splits(train, test, validation), seed, where))
