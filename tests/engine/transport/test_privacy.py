"""What ε is said, against what is known of Gaussian mechanisms."""

import math
import sys

import numpy as np
import pytest
from scipy.stats import norm

from strata.engine.errors import ConfigError
from strata.engine.transport.privacy import Privacy, require_accountant


def exact_delta(multiplier, epsilon, times=1):
    """δ of a Gaussian mechanism of sensitivity 1, exactly (Balle and Wang, arXiv 1805.06530, theorem 8)."""
    mu = math.sqrt(times) / multiplier  # of ``times`` mechanisms together
    return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)


def test_without_the_accountant_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r'is not installed: pip install "strata-fl\[dp\]"'):
        require_accountant()


@pytest.mark.parametrize("at_server", [True, False])
def test_epsilon_is_a_bound_that_is_not_far_from_the_exact_one(at_server):
    pytest.importorskip("dp_accounting", reason="needs strata-fl[dp]")
    every = Privacy(6.0, 1e-3, clients=40, cohort=40, at_server=at_server)
    for rounds in (1, 10):
        epsilon = every.epsilon(rounds)
        # A change that moves by 2S under noise of 6S: the multiplier is 3.
        assert exact_delta(3.0, epsilon, rounds) <= 1e-3
        assert exact_delta(3.0, 0.7 * epsilon, rounds) > 1e-3


def test_sampling_helps_where_the_server_adds_the_noise_alone():
    pytest.importorskip("dp_accounting", reason="needs strata-fl[dp]")
    few = Privacy(6.0, 1e-3, clients=100, cohort=10, at_server=True)
    every = Privacy(6.0, 1e-3, clients=100, cohort=100, at_server=True)
    client = Privacy(6.0, 1e-3, clients=100, cohort=10, at_server=False)
    assert few.epsilon(20) < 0.5 * every.epsilon(20)
    assert client.epsilon(20) == every.epsilon(20)
    # One round of the sampled mechanism is (ε', q·δ')-private with ε' = log(1 + q(e^ε − 1)), at ε and δ' of the whole.
    epsilons = np.linspace(0.01, 4, 400)
    amplified = [math.log(1 + 0.1 * (math.exp(e) - 1)) for e in epsilons if 0.1 * exact_delta(3.0, e) <= 1e-3]
    assert min(amplified) <= few.epsilon(1) < every.epsilon(1)


def test_rounds_of_teams_are_counted():
    pytest.importorskip("dp_accounting", reason="needs strata-fl[dp]")
    flat = Privacy(6.0, 1e-3, 40, 0, at_server=False)
    tiered = Privacy(6.0, 1e-3, 40, 0, at_server=False, exchanges=5)
    assert tiered.epsilon(2) == flat.epsilon(10)
    assert tiered.metrics(2) == {"privacy/epsilon": flat.epsilon(10), "privacy/delta": 1e-3}


def test_where_none_is_given_there_is_no_number():
    none = Privacy(1.0, 0.1, 10, 5, at_server=True, none="it has teams")
    assert none.epsilon(3) is None
    assert none.metrics(3) == {}
    assert none.told(3) == "transport.noise: no ε is given: it has teams"
