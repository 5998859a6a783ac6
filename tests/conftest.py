"""Fixtures for all."""

import numpy as np
import pytest

import strata.engine.runtime  # noqa: F401  # before Ray, which some tests import first
from strata.engine.data.dataset import Dataset


def pytest_collection_modifyitems(items):
    """The files that take longest come first, or one of two processes would be left with them at the end."""
    long = ("faults", "golden", "runtime", "test_cli.py", "test_slurm.py", "asynchronous")
    items.sort(key=lambda item: not any(part in item.path.parts for part in long))


@pytest.fixture
def make_dataset():
    """Make a set of ``per_class`` rows of each class, class by class; its one feature is the row number."""

    def make(per_class=60, classes=10, test_share=0.0, natural=0):
        y = np.repeat(np.arange(classes), per_class).astype(np.int64)
        tested = np.tile(np.arange(per_class) < round(test_share * per_class), classes) if test_share else None
        owner = np.array([f"p{row % natural:03d}" for row in range(len(y))]) if natural else None
        x = np.arange(len(y), dtype=np.float32)[:, None]
        return Dataset("made", x, y, classes, tuple(map(str, range(classes))), natural=owner, natural_test=tested)

    return make
