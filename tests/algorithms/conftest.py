"""Which of the conformance tests are for `make test-all`."""

import pytest

from strata.cluster.conformance import whole_runs
from strata.engine.method.find import method_names

LARGE = ("fedtp", "perfedrlnas")
TOGETHER = whole_runs.comes_close_when_clients_are_trained_as_one
REPEATED = (whole_runs.repeats_its_run, whole_runs.resumes)  # golden runs, and those of the runtime, do so as well


def is_exhaustive(method, check):
    """Runs of large models that are made but to be compared; of those that are made again, two methods in three."""
    if method in LARGE:
        return check in (TOGETHER, *REPEATED)
    return check in REPEATED and method_names().index(method) % 3 != 0


def pytest_collection_modifyitems(items):
    """Mark them, before those that are not asked for are left out."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if {"subject", "check"} <= params.keys() and is_exhaustive(params["subject"], params["check"]):
            item.add_marker(pytest.mark.exhaustive)
