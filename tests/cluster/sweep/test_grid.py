"""Which runs a sweep makes of settings with several values."""

import pytest

from strata.cluster.sweep.grid import split, trials_of
from strata.engine.errors import ConfigError
from tests.helpers.small import small_overrides

SMALL = small_overrides("fedavg")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1", ["0.1"]),
        ("0.1,1", ["0.1", "1"]),
        ("[1,2]", ["[1,2]"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{a: 1, b: 2},{a: 3}", ["{a: 1, b: 2}", "{a: 3}"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("uniform(0,1)", ["uniform(0,1)"]),
    ],
)
def test_commas_within_brackets_and_quotes_separate_nothing(text, values):
    assert split(text) == values


def test_every_combination_is_run_with_every_seed():
    trials = trials_of("fedavg", [*SMALL, "method.lr=0.1,0.2", "clients.count=4,8,6", "seeds=[3,5]"])
    found = [(t.config.method.lr, t.config.clients.count, t.config.seed) for t in trials]
    assert found == [(lr, count, seed) for lr in (0.1, 0.2) for count in (4, 8, 6) for seed in (3, 5)]
    assert all(trial.config.seeds == [] for trial in trials)
    assert len({trial.name for trial in trials}) == 12
    assert trials[0].values == {"method.lr": "0.1", "clients.count": "4"}
    assert trials[0].config.tracking.name == "method.lr=0.1, clients.count=4, seed 3"


def test_lists_are_swept_as_lists():
    trials = trials_of("fedavg", [*SMALL, "model=mlp", "model.hidden=[16],[16,8]"])
    assert [list(trial.config.model.hidden) for trial in trials] == [[16], [16, 8]]


def test_ranges_are_drawn_within_their_bounds_and_the_same_again():
    words = ["method.lr=loguniform(1e-3,1)", "method.momentum=uniform(0,0.9)", "method.epochs=randint(1,3)"]

    def drawn():
        trials = trials_of("fedavg", [*SMALL, *words], samples=60)
        return [(t.config.method.lr, t.config.method.momentum, t.config.method.epochs) for t in trials]

    rates, momenta, epochs = zip(*drawn(), strict=True)
    assert drawn() == list(zip(rates, momenta, epochs, strict=True))
    assert all(1e-3 <= lr <= 1 for lr in rates)
    assert 0.3 < sum(lr < 1e-3**0.5 for lr in rates) / 60 < 0.7  # half of them lie below the geometric mean
    assert all(0 <= momentum <= 0.9 for momentum in momenta)
    assert set(epochs) == {1, 2, 3}
    assert len(set(rates)) == len(set(momenta)) == 60


def test_each_value_of_a_grid_is_run_with_each_sample():
    trials = trials_of("fedavg", [*SMALL, "clients.count=4,8", "method.lr=uniform(0.1,0.2)"], samples=3)
    rates = [trial.values["method.lr"] for trial in trials]
    assert rates[:3] == rates[3:]
    assert len(set(rates)) == 3
    assert [trial.config.clients.count for trial in trials] == [4, 4, 4, 8, 8, 8]


@pytest.mark.parametrize(
    ("words", "samples", "message"),
    [
        (["method.lr=0.1"], 0, "nothing is swept.*for one run there is `strata run`"),
        (["method.lr=0.1,0.1"], 0, "'0.1' is given twice"),
        (["method.lr=0.1,0.2", "method.lr=0.3,0.4"], 0, "method.lr is swept twice"),
        (["seeds=1,2"], 0, r"expected a list of seeds, e.g. seeds=\[1,2\]"),
        (["output=a,b"], 0, "output=a,b: expected one value"),
        (["ray.num_cpus=1,2"], 0, "ray.num_cpus=1,2: expected one value"),
        (["method.lr=uniform(0,1)"], 0, r"method.lr=uniform\(…\): expected --samples N"),
        (["method.lr=0.1,0.2"], 3, "--samples 3: expected a range to draw from"),
        (["method.lr=loguniform(0,1)"], 2, "expected a lower bound above 0"),
        (["method.lr=uniform(2,1)"], 2, "expected a lower bound and a higher one, got 2 and 1"),
        (["method.epochs=randint(1.5,3)"], 2, "expected two whole numbers, got 1.5 and 3"),
        (["method.lr=uniform(a,b)"], 2, "expected two numbers, got a and b"),
        (["method.lr=0.1,fast"], 0, "method.lr"),
        (["method.speed=1,2"], 0, "method.speed: no such key"),
        (["nonsense"], 0, "expected key=value"),
    ],
    ids=str,
)
def test_mistakes_are_refused_before_anything_runs(words, samples, message):
    with pytest.raises(ConfigError, match=message):
        trials_of("fedavg", [*SMALL, *words], samples)
