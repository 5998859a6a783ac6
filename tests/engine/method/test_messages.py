"""What servers know of clients."""

from math import log

import numpy as np
import pytest

from strata.engine.errors import EmptyCohortError
from strata.engine.method.messages import ClientInfo, require_cohort


def entropy(*counts):
    return ClientInfo(3, None, sum(counts), 0, np.array(counts), "any", 1.0).label_entropy


def test_the_entropy_of_labels_is_in_nats_and_classes_without_samples_do_not_count():
    assert entropy(5, 5, 5, 5) == pytest.approx(log(4))
    assert entropy(1, 3) == pytest.approx(0.25 * log(4) + 0.75 * log(4 / 3))
    assert entropy(0, 1, 0, 3) == entropy(1, 3)
    assert entropy(10, 30) == pytest.approx(entropy(1, 3))


def test_one_class_and_none_have_no_entropy():
    assert entropy(0, 7, 0) == entropy(0, 0, 0) == 0.0


def test_an_aggregation_of_nothing_is_refused_by_the_name_of_its_method():
    require_cohort("FedAvg", [None])  # what an upload is, is not for it to judge
    with pytest.raises(EmptyCohortError, match="FedAvg: nothing to aggregate"):
        require_cohort("FedAvg", [])
