"""Ditto against its equations in numpy, with half of the clients a round, and at its limits."""

import pytest

from strata.algorithms.ditto import DittoConfig
from strata.engine.errors import ConfigError
from strata.engine.options import check
from tests.helpers.arithmetic.cohorts import LR, STEPS, assert_close, descended, mean, played, plus, slope

LAM = 0.8


def in_numpy(run, lam, steps):
    """w and the personal models by client after the last round."""
    w, v = run.start, {}
    for cohort in run.cohorts:
        for client in cohort:
            own = v.get(client, w)
            for _ in range(steps):
                own = plus(own, plus(slope(own, run.rows[client]), plus(own, w, -1), lam), -LR)
            v[client] = own
        w = mean([descended(w, run.rows[client]) for client in cohort], run.sizes(cohort))
    return w, v


@pytest.mark.parametrize(("words", "steps"), [((), STEPS), (("method.personal_steps=5",), 5)])
def test_rounds_are_those_of_the_papers_algorithm(words, steps):
    run = played("ditto", f"method.lam={LAM}", *words)
    w, v = in_numpy(run, LAM, steps)
    assert_close(run.end, w, run.start)
    assert set(run.clients) == set(v)
    for client, expected in v.items():
        assert_close(run.clients[client].v, expected, w)


def test_the_global_model_is_fedavgs_and_without_a_pull_clients_are_alone():
    run, fedavg = played("ditto", "method.lam=0", "method.personal_steps=0"), played("fedavg")
    assert run.cohorts == fedavg.cohorts
    for name, value in fedavg.end.items():
        assert (run.end[name] == value).all()
    first, calls = {}, {}
    for number, cohort in enumerate(run.cohorts):
        for client in cohort:
            first.setdefault(client, number)
            calls[client] = calls.get(client, 0) + 1
    at_first = [client for client, number in first.items() if number == 0]
    assert max(calls[client] for client in at_first) > 1
    for client in at_first:  # they began at the first w
        alone = descended(run.start, run.rows[client], STEPS * calls[client])
        assert_close(run.clients[client].v, alone, run.start)


def test_a_pull_that_diverges_is_refused():
    with pytest.raises(ConfigError, match=r"lr·lam = 2 makes models diverge"):
        check(DittoConfig(lr=0.5, lam=4.0))
