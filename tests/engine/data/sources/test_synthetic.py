import numpy as np

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.data.sources.synthetic import client_samples, client_sizes


def test_shape_clients_and_determinism():
    config = DataConfig(name="synthetic")
    dataset = load(config, 12, 5)
    assert dataset.x.dtype == np.float32
    assert dataset.input_shape == (60,)
    assert dataset.classes == 10
    assert sorted(set(dataset.natural)) == [f"{client:02d}" for client in range(12)]
    assert np.array_equal(dataset.x, load(config, 12, 5).x)
    assert not np.array_equal(dataset.x[:50], load(config, 12, 6).x[:50])


def test_sizes_are_lognormal_above_fifty():
    sizes = client_sizes(4000, 0)
    assert sizes.min() >= 50
    # log(size - 50) ~ N(4, 2): 4,000 draws put the median within 4 standard errors, 2·1.25/√4000·4 ≈ 0.16.
    logs = np.log(sizes - 50 + 0.5)
    assert abs(np.median(logs) - 4.0) < 0.16
    quartile_distance = np.quantile(logs, 0.75) - np.quantile(logs, 0.25)
    assert abs(quartile_distance - 2 * 0.6745 * 2.0) < 0.25


def test_input_covariance_is_the_power_law():
    x, _ = client_samples(client=3, size=40_000, alpha=0.5, beta=0.5, seed=0)
    covariance = np.cov(x.T)
    expected = np.arange(1, 61) ** -1.2
    # A sample variance of n normal values has relative error √(2/n) = 0.7 %.
    assert np.allclose(np.diag(covariance), expected, rtol=0.04)
    correlation = np.corrcoef(x.T) - np.eye(60)
    assert np.abs(correlation).max() < 5 / np.sqrt(40_000)


def test_labels_come_from_one_linear_model_per_client():
    # A linear classifier, fitted by least squares on one-hot targets, beats chance by far on its own client only.
    fits = []
    for client in (0, 1):
        x, y = client_samples(client, 4000, 1.0, 1.0, seed=1)
        inputs = np.c_[x, np.ones(len(x))]
        weights = np.linalg.lstsq(inputs, np.eye(10)[y], rcond=None)[0]
        fits.append((inputs, y, weights))
    own = np.mean([((x @ w).argmax(1) == y).mean() for x, y, w in fits])
    swapped = np.mean([((x @ w).argmax(1) == y).mean() for (x, y, _), (_, _, w) in zip(fits, fits[::-1], strict=True)])
    assert own > 0.75
    assert swapped < own - 0.3


def test_beta_moves_the_inputs_of_clients_apart():
    def spread(beta):
        return np.std([client_samples(client, 50, 0.0, beta, seed=2)[0].mean() for client in range(200)])

    # The mean over 60 features has deviation √(β² + 1/60) between clients, and little more from 50 samples.
    assert abs(spread(0.0) - np.sqrt(1 / 60)) < 0.04
    assert abs(spread(2.0) - 2.0) < 0.4


def test_a_client_does_not_depend_on_how_many_there_are():
    few, many = (load(DataConfig(name="synthetic"), clients, 0) for clients in (3, 30))
    assert np.array_equal(few.x[few.natural == "1"], many.x[many.natural == "01"])
