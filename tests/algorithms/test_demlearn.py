"""DemLearn against its equations in numpy, with half of the clients a round, and at its limits."""

from itertools import combinations, product

import numpy as np
import pytest

from strata.algorithms.demlearn import DemLearnConfig, Group, groups
from strata.engine.errors import ConfigError
from strata.engine.options import check
from tests.helpers.arithmetic.cohorts import LR, STEPS, assert_close, descended, mean, played, plus, slope

MIXING, MU = 0.4, 0.5


def tree_of(models):
    """Average linkage by its definition: nested pairs of clients."""
    flat = {client: np.concatenate([value.ravel() for value in model.values()]) for client, model in models.items()}
    clusters = list(models)
    while len(clusters) > 1:
        apart = {}
        for a, b in combinations(range(len(clusters)), 2):
            pairs = product(leaves(clusters[a]), leaves(clusters[b]))
            apart[a, b] = np.mean([np.linalg.norm(flat[i] - flat[j]) for i, j in pairs])
        b, a = min(apart, key=apart.get)
        clusters.append((clusters.pop(a), clusters.pop(b)))
    return clusters[0]


def leaves(tree):
    return [tree] if isinstance(tree, int) else [*leaves(tree[0]), *leaves(tree[1])]


def hand_down(tree, models, mixing, levels, above=None):
    """What its parent hands down, by client."""
    own = mean([models[client] for client in sorted(leaves(tree))])
    v = own if above is None else plus(own, plus(above, own, -1), mixing)
    found = {}
    for child in tree if levels else leaves(tree):
        found |= {child: v} if isinstance(child, int) else hand_down(child, models, mixing, levels - 1, v)
    return found


def in_numpy(run, mixing, mu, levels):
    """The root's model and those of the clients after the last round, and how many parents there were in each."""
    root, parents, w, counts = run.start, {}, {}, []
    for cohort in run.cohorts:
        for client in cohort:
            v = parents.get(client, root)
            own, pull = (plus(w[client], plus(v, w[client], -1), mixing), mu) if client in w else (v, 0)
            for _ in range(STEPS):
                own = plus(own, plus(slope(own, run.rows[client]), plus(own, v, -1), pull), -LR)
            w[client] = own
        models = {client: w[client] for client in cohort}
        root, parents = mean(list(models.values())), hand_down(tree_of(models), models, mixing, levels)
        counts.append(len({id(v) for v in parents.values()}))
    return root, w, counts


@pytest.mark.parametrize("levels", [1, 3])
def test_rounds_are_those_of_the_papers_algorithm(levels):
    words = ("clients.count=16", f"method.mixing={MIXING}", f"method.mu={MU}", f"method.levels={levels}")
    run = played("demlearn", *words)
    root, w, counts = in_numpy(run, MIXING, MU, levels)
    assert max(counts) > 1, "with one parent there are no levels"
    assert_close(run.end, root, run.start)
    assert set(run.clients) == set(w)
    for client, expected in w.items():
        assert_close(run.clients[client].w, expected, run.start)


def test_mixed_with_the_root_alone_it_is_an_average_of_all_and_not_mixed_clients_are_alone():
    run = played("demlearn", "method.mixing=1", "method.mu=0")
    w = run.start
    for cohort in run.cohorts:
        w = mean([descended(w, run.rows[client]) for client in cohort])
    assert_close(run.end, w, run.start)
    alone = played("demlearn", "method.mixing=0", "method.mu=0")
    calls = [client for cohort in alone.cohorts for client in cohort]
    for client in alone.cohorts[0]:  # they began at the first root
        expected = descended(alone.start, alone.rows[client], STEPS * calls.count(client))
        assert_close(alone.clients[client].w, expected, alone.start)


def test_groups_are_split_until_the_last_level_and_a_client_that_is_split_off_stays_above():
    pairs = np.array([[0, 1], [2, 3], [5, 6], [4, 7]])  # 4 leaves the others at the root
    found = list(groups(pairs, 5, 2))
    assert found == [
        Group(0, None, (0, 1, 2, 3, 4)),
        Group(1, 0, (0, 1, 2, 3)),
        Group(2, 1, (0, 1)),
        Group(3, 1, (2, 3)),
    ]
    assert list(groups(pairs, 5, 0)) == found[:1]
    assert list(groups(np.zeros((0, 2), np.int64), 1, 3)) == [Group(0, None, (0,))]


def test_a_pull_that_diverges_is_refused():
    with pytest.raises(ConfigError, match=r"lr·mu = 2 makes models diverge"):
        check(DemLearnConfig(lr=0.5, mu=4.0))
