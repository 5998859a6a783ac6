"""AL2GD against its equations in numpy, with all and with half of the clients an iteration, and at its limits.

# n samples of one client
"""

import numpy as np
import pytest

from strata.algorithms.al2gd import AL2GD, AL2GDConfig
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.messages import Context, TeamInfo
from strata.engine.seeding import uniform
from tests.helpers.arithmetic.cohorts import arrays, assert_close, mean, plus, slope
from tests.helpers.arithmetic.linear import spec
from tests.helpers.arithmetic.softmax import FULL_BATCH
from tests.helpers.small import small

LR, STEPS, LAM, GAMMA, TAU, P_NETWORK, P_CLUSTER = 0.1, 2, 6.0, 1.5, 0.3, 0.35, 0.4
ITERATIONS = 12
PULLS = {"lam": LAM, "gamma": GAMMA, "tau": TAU, "p_network": P_NETWORK, "p_cluster": P_CLUSTER}


def played(*words, **pulls):
    """A run of seven clients in two teams: its federation, ended, its records, and the model that it began with."""
    settings = {**PULLS, "lr": LR, "steps": STEPS, "batch_size": FULL_BATCH, **pulls}
    config = small(
        "al2gd",
        "data=synthetic",
        "data.limit=400",
        "partition=quantity",
        "partition.sizes=powerlaw",
        "clients.count=7",
        "model=mclr",
        f"rounds={ITERATIONS}",
        *(f"method.{name}={value}" for name, value in settings.items()),
        *words,
    )
    with Federation(config) as federation:
        start = arrays(federation.rounds.snapshot().server.mean)
        records = list(federation)
        data, found = federation.world.data, federation.rounds.snapshot()
        trains = [client.train for client in data.clients]
        rows = [(data.dataset.x[ids].reshape(len(ids), -1).astype("f8"), data.dataset.y[ids]) for ids in trains]
        return data.teams, rows, start, records, found


def in_numpy(teams, rows, start, records, seed):
    """θ_i by client, θ̄_j by team and θ̄ after the last iteration, and what happened in which order."""

    def act(t, team):
        if uniform(seed, "network", member=t) < P_NETWORK:
            return "network"
        return "cluster" if uniform(seed, "cluster", team, member=t) < P_CLUSTER else "local"

    def average(weighted):
        models, weights = zip(*weighted, strict=True)
        return mean(models, weights)

    network, clusters, theta = start, dict.fromkeys(teams, start), {}
    happened, calls = [], [set(record.calls.client.tolist()) for record in records]
    alphas = {j: LAM / (LAM + len(members) * GAMMA) for j, members in teams.items()}
    for t, cohort in enumerate(calls):
        acts = {j: act(t, j) for j in teams}
        happened.append(tuple(acts.values()))
        for j, members in teams.items():
            alpha, theta_j = alphas[j], clusters[j]
            for i in sorted(cohort & set(members)):
                if acts[j] == "network":
                    there = average([(network, alpha), (theta_j, TAU * (1 - alpha))])
                    own = theta.get(i, there)
                    by = LR * GAMMA / P_NETWORK
                    kept = {name: (1 - by * (alpha + TAU * (1 - alpha))) * value for name, value in own.items()}
                    theta[i] = plus(plus(kept, network, by * alpha), theta_j, by * TAU * (1 - alpha))
                elif acts[j] == "cluster":
                    c = LR * GAMMA * (1 - TAU) * (1 - alpha) / ((1 - P_NETWORK) * P_CLUSTER)
                    own = theta.get(i, theta_j)
                    theta[i] = plus(own, plus(own, theta_j, -1), -c)
                else:
                    theta[i] = theta.get(i, theta_j)
                    for _ in range(STEPS):
                        by = -LR / ((1 - P_NETWORK) * (1 - P_CLUSTER))
                        theta[i] = plus(theta[i], slope(theta[i], rows[i]), by)
            if act(t + 1, j) != "local":
                clusters[j] = mean([theta[i] for i in sorted(cohort & set(members))])
        if act(t + 1, 0) == "network":
            network = average([(clusters[j], alphas[j] * len(members)) for j, members in teams.items()])
    return theta, clusters, network, happened


@pytest.mark.parametrize("participation", [1, 0.5])
def test_iterations_are_those_of_the_papers_algorithm(participation):
    teams, rows, start, records, found = played(f"clients.participation={participation}")
    theta, clusters, network, happened = in_numpy(teams, rows, start, records, found.server.seed)
    assert {act for acts in happened for act in acts} == {"network", "cluster", "local"}
    assert len({len(members) for members in teams.values()}) == 2, "clusters of one size have one weight in the mean"
    assert set(found.clients) == set(theta)
    for client, expected in theta.items():
        assert_close(found.clients[client].theta, expected, start)
    for team, expected in clusters.items():
        assert_close(found.team_states[team].mean, expected, start)
    assert_close(found.server.mean, network, start)
    for record, acts in zip(records, happened, strict=True):
        trained = {client for client, steps in zip(record.calls.client, record.calls.steps, strict=True) if steps}
        called = set(record.calls.client.tolist())
        assert trained == {i for j, members in teams.items() for i in members if acts[j] == "local"} & called


def test_models_cross_the_network_for_a_mix_alone():
    teams, rows, start, records, found = played("clients.participation=1")
    *_, happened = in_numpy(teams, rows, start, records, found.server.seed)
    size = sum(value.size * 4 for value in start.values())
    for t, record in enumerate(records[:-1]):
        for client, down, up in zip(record.calls.client, record.calls.bytes_down, record.calls.bytes_up, strict=True):
            team = next(j for j, members in teams.items() if client in members)
            mixes, then = (happened[at][team] != "local" for at in (t, t + 1))
            assert (down >= size) == (mixes or t == 0)
            assert down % size < 50, "beside a model there are a few numbers"
            assert up == (size if then else 0)


def test_the_mean_step_over_the_coins_is_the_objectives_gradient():
    config = AL2GDConfig(lr=LR, **PULLS)
    rng, size = np.random.default_rng(1), 3
    own, cluster, network, local = rng.normal(size=(4, 5))
    alpha = LAM / (LAM + size * GAMMA)
    weight = config.of_network(size)
    centre = weight * network + (1 - weight) * cluster
    mixed = -config.share("network", size) * (own - centre)
    pulled = -config.share("cluster", size) * (own - cluster)
    trained = -config.local_lr * local
    found = P_NETWORK * mixed + (1 - P_NETWORK) * (P_CLUSTER * pulled + (1 - P_CLUSTER) * trained)
    nearest = alpha * network + (1 - alpha) * cluster  # the w_j at which the objective is least
    np.testing.assert_allclose(found, -LR * (local + GAMMA * (own - nearest)), atol=1e-12)


def test_coins_fall_as_often_as_they_are_to_and_clusters_have_their_own():
    config, many = AL2GDConfig(**PULLS), 4000
    acts = {j: [config.act(7, t, j) for t in range(many)] for j in (0, 1)}
    networks = [[act == "network" for act in found] for found in acts.values()]
    assert networks[0] == networks[1]
    for found in acts.values():
        assert found.count("network") / many == pytest.approx(P_NETWORK, abs=0.03)
        assert found.count("cluster") / many == pytest.approx((1 - P_NETWORK) * P_CLUSTER, abs=0.03)
    assert acts[0] != acts[1]


def test_without_mixes_clients_are_alone():
    *_, rows, start, _, found = played("clients.participation=1", p_network=0, p_cluster=0)
    for client, state in found.clients.items():
        alone = start
        for _ in range(ITERATIONS * STEPS):
            alone = plus(alone, slope(alone, rows[client]), -LR)
        assert_close(state.theta, alone, start)


def test_a_mix_of_the_network_all_the_way_leaves_one_model():
    pulls = {"gamma": 0.5 / LR, "lam": 1e9, "tau": 0, "p_network": 0.5, "p_cluster": 0}  # lr·gamma / p_0 = 1 and α = 1
    *_, records, _ = played("clients.participation=1", **pulls)
    mixes = [t for t, record in enumerate(records) if not any(record.calls.steps)]
    *_, start, _, mixed = played("clients.participation=1", f"rounds={mixes[-1] + 1}", **pulls)
    assert 0 < len(mixes) < len(records)
    for state in mixed.clients.values():
        assert_close(state.theta, arrays(mixed.server.mean), start)


@pytest.mark.parametrize("named", ["network", "cluster"])
def test_a_mix_that_diverges_is_refused(named):
    only = {f"p_{other}": 0.2 * (other == named) for other in ("network", "cluster")}
    team, pulls = TeamInfo(0, (0, 1), 9), {"lam": 10.0, "gamma": 10.0, **only}  # α = 1/3
    for lr, diverges in ((0.05, False), (0.2, True)):
        method = AL2GD(AL2GDConfig(lr=lr, **pulls), spec())
        if diverges:
            with pytest.raises(ConfigError, match=f"mix of the {named} would take clients of a team of 2 .* < 2"):
                method.to_team(method.init_global(1), team, {}, Context(1, 0, 0))
        else:
            method.to_team(method.init_global(1), team, {}, Context(1, 0, 0))
