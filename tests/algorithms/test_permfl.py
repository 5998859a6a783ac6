"""PerMFL against an independent numpy implementation of its three equations, and at its limits."""

import warnings

import numpy as np
import pytest

from strata.algorithms.permfl import Global, PerMFL, PerMFLConfig, Personal, Sparse, Team, TeamUp, Up
from strata.engine.errors import ConfigError, StrataWarning
from strata.engine.federation import Federation
from strata.engine.method.length import Length
from strata.engine.method.messages import Received
from strata.engine.models.spec import ModelSpec
from strata.engine.options import check
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.softmax import FULL_BATCH, client_arrays, gradient
from tests.helpers.moments import AT, TEAM
from tests.helpers.small import small


def reference(start, clients, teams, *, rounds, K, L, alpha, eta, beta, gamma, lam_d, lam_t):
    """Equations of the paper, in float64, on full batches (the order within a batch does not matter)."""
    x = [v.copy() for v in start]
    theta, w = {}, {}
    for _ in range(rounds):
        for m, members in teams.items():
            w[m] = [v.copy() for v in x]
            for _ in range(K):
                for j in members:
                    t = [v.copy() for v in w[m]]
                    for _ in range(L):
                        g = gradient(*t, *clients[j])
                        t = [tv - alpha * gv - alpha * lam_d * (tv - wv) for tv, gv, wv in zip(t, g, w[m], strict=True)]
                    theta[j] = t
                mean = [np.mean([theta[j][i] for j in members], axis=0) for i in range(2)]
                w[m] = [
                    (1 - eta * lam_t - eta * gamma) * wv + eta * gamma * xv + eta * lam_t * tv
                    for wv, xv, tv in zip(w[m], x, mean, strict=True)
                ]
        mean_w = [np.mean([w[m][i] for m in teams], axis=0) for i in range(2)]
        x = [(1 - beta * gamma) * xv + beta * gamma * wv for xv, wv in zip(x, mean_w, strict=True)]
    return x, w, theta


def test_three_tiers_match_a_numpy_reference_to_1e_6():
    settings = {"alpha": 0.1, "eta": 0.3, "beta": 0.5, "gamma": 1.7, "lam_d": 0.4, "lam_t": 0.8}
    config = small(
        "permfl",
        "rounds=2",
        "method.team_rounds=3",
        "method.local_steps=4",
        f"method.batch_size={FULL_BATCH}",
        "method.alpha=0.1",
        "method.eta=0.3",
        "method.beta=0.5",
        "method.gamma=1.7",
        "method.lambda_device=0.4",
        "method.lambda_team=0.8",
    )
    with Federation(config) as federation:
        data = federation.world.data
        start = federation.rounds.snapshot().server.x
        for _ in federation:
            pass
        end = federation.rounds.snapshot()
    rows = client_arrays(data)
    names = list(start)
    assert [tuple(start[n].shape) for n in names] == [(10, 784), (10,)]
    x, w, theta = reference(
        [start[n].double().numpy() for n in names], rows, data.teams, rounds=2, K=3, L=4, **settings
    )
    for i, name in enumerate(names):
        np.testing.assert_allclose(end.server.x[name].numpy(), x[i], atol=1e-6)
        for team in data.teams:
            np.testing.assert_allclose(end.teams[team].w[name].numpy(), w[team][i], atol=1e-6)
        for client in range(8):
            np.testing.assert_allclose(end.clients[client].theta[name].numpy(), theta[client][i], atol=1e-6)
    moved = max(abs(end.server.x[n].numpy() - start[n].numpy()).max() for n in names)
    assert moved > 1e-3, "the comparison would hold for a method that does nothing"


def method(**settings):
    return PerMFL(PerMFLConfig(**settings), ModelSpec("mclr", (2,), 2, ()))


def test_without_a_pull_a_device_descends_plainly_and_a_team_ignores_it():
    import torch

    permfl = method(lambda_device=0.0)
    (request,) = [
        permfl.client_step(None, Personal(), permfl.to_client(team(1.0), None, {"steps": 5}), None).send(None)
    ]
    assert request.pull == ()
    assert request.length == Length(steps=5)
    after = permfl.team_step(team(1.0), [Received(0, 3, Up({"w": torch.full((3,), 9.0)}))], AT)
    # w ← (1 − 0 − ηγ)·1 + ηγ·1 + 0·9 = 1
    torch.testing.assert_close(after.w["w"], torch.ones(3))


def team(value):
    import torch

    return Team({"w": torch.full((3,), value)}, {"w": torch.ones(3)})


def test_sparse_upload_sends_the_largest_changes_only():
    import torch

    permfl = method(upload_fraction=0.5)
    state = Team(
        {"a": torch.tensor([5.0, 1.1]), "b": torch.tensor([[1.0, -3.0]])}, {"a": torch.ones(2), "b": torch.ones(1, 2)}
    )
    up = permfl.to_global(state)
    assert isinstance(up.w, Sparse)
    assert up.w.positions.tolist() == [0, 3]
    assert up.w.values.tolist() == [4.0, -4.0]
    from strata.algorithms.permfl import Global

    g = permfl.global_step(Global(state.x), [Received(0, 1, up)], AT)
    step = 0.6 * 1.5  # βγ: x ← x + βγ (w̃ − x), with w̃ = x + the sent changes
    torch.testing.assert_close(g.x["a"], torch.tensor([1 + step * 4, 1.0]))
    torch.testing.assert_close(g.x["b"], torch.tensor([[1.0, 1 - step * 4]]))


def test_uploading_everything_is_the_same_as_uploading_the_model():
    import torch

    dense = method().global_step(_global(), [Received(0, 1, TeamUp({"w": torch.tensor([2.0, 4.0])}))], AT)
    state = Team({"w": torch.tensor([2.0, 4.0])}, _global().x)
    change = Sparse(torch.tensor([0, 1], dtype=torch.int32), state.w["w"] - state.x["w"])
    sparse = method().global_step(_global(), [Received(0, 1, TeamUp(change))], AT)
    torch.testing.assert_close(dense.x, sparse.x)


def _global():
    import torch

    from strata.algorithms.permfl import Global

    return Global({"w": torch.ones(2)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 1.0, "gamma": 1.5}, r"eta.*= 2 makes team models diverge"),
        ({"alpha": 5.0}, "makes device models diverge"),
        ({"gamma": 0.0}, "gamma=0 is out of range: expected > 0"),
    ],
)
def test_settings_that_diverge_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check(PerMFLConfig(**settings))


def test_settings_outside_the_theorems_are_warned_about():
    with pytest.warns(StrataWarning, match="not above 2λ = 40"):
        check(PerMFLConfig(lambda_device=20.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(PerMFLConfig())  # γ = 1.5 > 2λ = 1: the published setting


@pytest.mark.parametrize(
    ("beta", "share", "converges"), [(0.99, 1.0, False), (0.99, 0.6, True), (0.8, 1.0, True), (0.85, 1.0, False)]
)
def test_teams_that_restart_from_x_let_the_global_model_take_longer_steps(beta, share, converges):
    config = PerMFLConfig(lambda_device=5.0, gamma=5.0, beta=beta)
    x, u = 1.0, 0.0  # what all devices want; each comes a share of the way to it from where its team is
    for _ in range(100):
        w = x
        for _ in range(config.team_rounds):
            theta = w - share * (w - u)
            w = (1 - config.eta * (config.lambda_t + config.gamma)) * w + config.eta * (
                config.gamma * x + config.lambda_t * theta
            )
        x = (1 - beta * config.gamma) * x + beta * config.gamma * w
    assert (abs(x) < 1) == converges
    if share == 1:
        assert (config.reach < 2) == converges


@pytest.mark.parametrize(("beta", "words"), [(0.99, "where devices stay near their teams"), (0.5, "as it is")])
def test_a_step_of_the_global_model_that_may_diverge_is_warned_about(beta, words):
    with pytest.warns(StrataWarning, match=f"is not below 2.*{words}"):
        check(PerMFLConfig(lambda_device=5.0, gamma=11.0, beta=beta))


def test_what_an_agent_sets_travels_with_the_models_and_holds_for_one_round():
    import torch

    permfl = method(lambda_device=0.5, gamma=1.5, eta=0.1, beta=0.5)
    x = {"w": torch.ones(3)}
    plain, g = Global(x), permfl.steer(Global(x), {"lam": 2.0, "gamma": 0.8})
    down, plain_down = permfl.to_team(g, TEAM, {}, AT), permfl.to_team(plain, TEAM, {}, AT)
    assert count_bytes(plain_down) == 12
    assert count_bytes(down) == 12 + 8 + 8
    state = Team({"w": torch.full((3,), 2.0)}, x, permfl.start_team(down, None).pulls)
    to_device = permfl.to_client(state, None, {"steps": 5})
    assert count_bytes(permfl.to_client(permfl.start_team(plain_down, None), None, {"steps": 5})) == 12 + 8
    assert count_bytes(to_device) == 12 + 8 + 8
    (pull,) = permfl.client_step(None, Personal(), to_device, None).send(None).pull
    assert pull.strength == 2.0
    after = permfl.team_step(state, [Received(0, 3, Up({"w": torch.full((3,), 5.0)}))], AT)
    # (1 − ηλ − ηγ) w + ηγ x + ηλ θ̄ = 0.72 · 2 + 0.08 · 1 + 0.2 · 5
    torch.testing.assert_close(after.w["w"], torch.full((3,), 2.52))
    assert after.pulls == state.pulls, "the pulls hold for all team rounds"
    made = permfl.global_step(g, [Received(0, 1, TeamUp({"w": torch.full((3,), 3.0)}))], AT)
    # (1 − βγ) x + βγ w̄ = 0.6 · 1 + 0.4 · 3
    torch.testing.assert_close(made.x["w"], torch.full((3,), 1.8))
    assert made.pulls is None


def test_beta_as_an_agent_sets_it_stays_at_the_global_server_and_holds_for_one_round():
    import torch

    permfl = method(lambda_device=0.5, gamma=1.5, eta=0.1, beta=0.5)
    g = permfl.steer(Global({"w": torch.ones(3)}), {"lam": 2.0, "gamma": 0.8, "beta": 0.25})
    down = permfl.to_team(g, TEAM, {}, AT)
    assert count_bytes(down) == 12 + 8 + 8, "the model, λ and γ"
    made = permfl.global_step(g, [Received(0, 1, TeamUp({"w": torch.full((3,), 3.0)}))], AT)
    # (1 − βγ) x + βγ w̄ = 0.8 · 1 + 0.2 · 3
    torch.testing.assert_close(made.x["w"], torch.full((3,), 1.4))
    assert made.pulls is None


def test_a_team_can_be_told_another_lambda_than_its_devices():
    import torch

    permfl = method(lambda_device=0.5, lambda_team=1.0, eta=0.1)
    g = permfl.steer(_global(), {"lam": 0.25, "gamma": 1.5, "lam_team": 4.0})
    state = Team({"w": torch.ones(3)}, {"w": torch.ones(3)}, g.pulls)
    assert permfl.to_client(state, None, {"steps": 1}).lam == 0.25
    after = permfl.team_step(state, [Received(0, 3, Up({"w": torch.full((3,), 2.0)}))], AT)
    torch.testing.assert_close(after.w["w"], torch.full((3,), 1.4))  # 1 + ηλ_t (2 − 1)


def test_a_device_told_not_to_be_pulled_is_not():
    permfl = method(lambda_device=0.5)
    told = permfl.to_client(
        permfl.start_team(permfl.to_team(permfl.steer(_global(), {"lam": 0.0, "gamma": 1.0}), TEAM, {}, AT), None),
        None,
        {"steps": 1},
    )
    assert permfl.client_step(None, Personal(), told, None).send(None).pull == ()
