"""Whether clients are tested on what they train on.

# C clients, K classes
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.apportion import label_counts
from strata.engine.data.dataset import FederatedData
from strata.engine.data.parts import Parts

LOOKED_AT = 10_000
"""Clients that are looked at, the first ones: of a population they tell enough."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """Classes of clients that occur on one side alone, ``(C, K)`` bool each.

    Attributes:
        clients: how many there are; C of them were looked at.
        untested: a client trains on it, and none of its test rows is of it.
        untrained: one of a client's test rows is of it, and none of its training rows.
    """

    clients: int
    untested: NDArray[np.bool_]
    untrained: NDArray[np.bool_]

    def told(self) -> str:
        """Of how many clients that is so, in a line; empty where it is of none."""
        looked = len(self.untested)
        everybody = f"{looked}" if looked == self.clients else f"the first {looked}"
        counts = [(int(side.any(axis=1).sum()), what) for side, what in zip(self.sides, WHAT, strict=True)]
        return "; ".join(f"{count} of {everybody} clients {what}" for count, what in counts if count)

    @property
    def sides(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Both, in the order of :data:`WHAT`."""
        return self.untested, self.untrained


WHAT = ("are never tested on classes they train on", "are tested on classes they never train on")


def coverage(federated: FederatedData, first: int = LOOKED_AT) -> Coverage:
    """Which classes of the ``first`` clients, or of all if there are fewer, are on one side alone."""
    y, classes = federated.dataset.groups, federated.dataset.group_count
    rows = federated.clients[:first]
    train_CK = label_counts(y, Parts.of([data.train for data in rows]), classes) > 0
    test_CK = label_counts(y, Parts.of([data.test for data in rows]), classes) > 0
    return Coverage(len(federated.clients), train_CK & ~test_CK, test_CK & ~train_CK)
