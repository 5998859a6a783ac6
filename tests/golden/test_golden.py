"""Results that may not move: see :mod:`tests.golden.runs`."""

import pytest
import ray

from strata.engine.method.find import load_method
from strata.engine.runtime import local_ray
from tests.golden.runs import PLACEMENTS, VARIANTS, arithmetic, config_of, names, play, read

METHODS = names()
ON_RAY = [placement for placement in PLACEMENTS if placement != "in-process"]


@pytest.fixture(scope="module")
def in_process():
    """Digests of the in-process run by method, each run once."""
    return {}


def digests_of(method, in_process):
    if method not in in_process:
        in_process[method] = play(config_of(method, "in-process"))
    return in_process[method]


@pytest.fixture(scope="module")
def ray_here():
    local_ray.start(3, 0)
    yield
    ray.shutdown()


@pytest.mark.parametrize("method", METHODS)
def test_digests_are_the_golden_ones(method, in_process):
    golden = read().get(arithmetic(), {}).get(method)
    made = digests_of(method, in_process)
    learning = load_method(VARIANTS[method][0] if method in VARIANTS else method).Control is not None
    assert set(made) == {"models", "clock", "metrics"} | ({"agents"} if learning else set())
    if golden is None:
        pytest.skip("bits of this processor or torch are not in digests.json; `python -m tests.golden` adds them")
    assert made == golden


def on_ray():
    """Every method at every placement: `make test` makes some methods at one of them, `make test-all` all."""
    for number, method in enumerate(METHODS):
        for place, placement in enumerate(ON_RAY):
            marks = [pytest.mark.slow] + [pytest.mark.exhaustive] * (number % 14 != 5 * place)
            yield pytest.param(method, placement, marks=marks)


@pytest.mark.parametrize(("method", "placement"), list(on_ray()))
def test_every_placement_has_the_same_digests(method, placement, in_process, ray_here):
    assert play(config_of(method, placement)) == digests_of(method, in_process)


def test_the_file_names_every_method_and_no_other():
    # Of a processor that was not at hand when a method was changed it lacks that method.
    known = [set(digests) for digests in read().values()]
    assert all(names <= set(METHODS) for names in known)
    assert set(METHODS) in known


def test_a_seed_moves_every_digest(in_process):
    from dataclasses import replace

    config = config_of("hapfl", "in-process")
    other = play(replace(config, seed=1))
    assert all(other[name] != digest for name, digest in digests_of("hapfl", in_process).items())
