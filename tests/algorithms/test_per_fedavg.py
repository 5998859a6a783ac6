"""First-order Per-FedAvg against its equations in numpy, with half of the clients a round, and at its limit."""

import numpy as np

from tests.helpers.arithmetic.cohorts import LR, STEPS, assert_close, correct, descended, mean, played, plus, slope

ALPHA = 0.6


def test_rounds_are_those_of_the_papers_first_order_variant():
    run = played("per_fedavg", f"method.alpha={ALPHA}")
    w = run.start
    for cohort in run.cohorts:
        ends = []
        for client in cohort:
            own = w
            for _ in range(STEPS):
                ahead = plus(own, slope(own, run.rows[client]), -ALPHA)
                own = plus(own, slope(ahead, run.rows[client]), -LR)
            ends.append(own)
        w = mean(ends)
    assert_close(run.end, w, run.start)
    personal = [plus(run.end, slope(run.end, rows), -ALPHA) for rows in run.rows]
    expected = sum(correct(model, rows) for model, rows in zip(personal, run.tests, strict=True))
    before = sum(correct(run.end, rows) for rows in run.tests)
    samples = sum(len(rows[1]) for rows in run.tests)
    assert run.scores["PM"].accuracy == expected / samples
    assert run.scores["GM"].accuracy == before / samples
    assert expected != before


def test_a_step_ahead_of_nothing_is_a_uniform_fedavg():
    run = played("per_fedavg", "method.alpha=1e-9")
    w = run.start
    for cohort in run.cohorts:
        w = mean([descended(w, run.rows[client]) for client in cohort])
    assert_close(run.end, w, run.start)
    sizes = run.sizes(range(6))
    assert max(sizes) > 2 * min(sizes), "a weighted mean would be the same"
    assert run.scores["PM"].accuracy == run.scores["GM"].accuracy
    assert np.isfinite(run.end["head.weight"]).all()
