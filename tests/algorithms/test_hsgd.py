"""h-SGD against numpy, on clients of unequal size."""

from tests.helpers.arithmetic.averaging import assert_close, descend, mean, run


def test_hsgd_takes_uniform_means_twice():
    start, end, clients, teams = run("hsgd", "method.steps=2", "method.team_rounds=3")
    x = start
    for _ in range(2):
        models = []
        for members in teams.values():
            w = x
            for _ in range(3):
                w = mean([descend(w, clients[j], 2) for j in members], None)
            models.append(w)
        x = mean(models, None)
    assert_close(end, x, start)
