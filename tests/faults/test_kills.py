"""Twenty kills at random moments: whatever dies, the runs end by themselves, as undisturbed ones do."""

import os
import random

import pytest

from tests.faults.kills import survive, three_nodes

KILLS = {"async clients": 18, "learning agents": 1, "async clients and teams": 1}  # of the fewest actors the most
SEED = int(os.environ.get("STRATA_KILLS_SEED", random.randrange(10**6)))


@pytest.fixture(scope="module")
def nodes():
    with three_nodes() as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("case", KILLS)
def test_a_run_ends_as_if_nothing_had_been_killed(nodes, tmp_path, case):
    print(f"again with STRATA_KILLS_SEED={SEED}")
    rng = random.Random(f"{SEED} {case}")
    assert len(survive(nodes, tmp_path / case, case, rng, KILLS[case])) == KILLS[case]
