"""Twenty kills at random moments: whatever dies, the runs end by themselves, as undisturbed ones do."""

import os
import random

import pytest

from tests.faults.kills import CASES, survive, three_nodes

KILLS = {"permfl": 1, "fedavg": 18, "hapfl": 1}  # of the fewest actors the most
SEED = int(os.environ.get("STRATA_KILLS_SEED", random.randrange(10**6)))


@pytest.fixture(scope="module")
def nodes():
    with three_nodes() as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize(("method", "words"), CASES, ids=[method for method, _ in CASES])
def test_a_run_ends_as_if_nothing_had_been_killed(nodes, tmp_path, method, words):
    print(f"again with STRATA_KILLS_SEED={SEED}")
    rng = random.Random(f"{SEED} {method}")
    assert len(survive(nodes, tmp_path / method, method, words, rng, KILLS[method])) == KILLS[method]
