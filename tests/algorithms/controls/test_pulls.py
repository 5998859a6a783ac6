"""The decisions of PerMFL: by hand, and through the environments, which know none of them."""

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from strata.algorithms.permfl import PerMFLConfig
from strata.engine.method.situation import Decisions
from strata.engine.options import check
from tests.helpers.decisions import Constant, decided_run, plain_run, pulls, report, situation
from tests.helpers.small import small, small_overrides


def test_pulls_are_one_row_and_three_numbers_whatever_the_cohort():
    control = pulls()
    (spec,) = control.agents.values()
    assert (spec.observation_space.shape, spec.action_space.shape) == ((1, 4), (3,))
    unknown, known = (control.observe("pulls", situation(accuracy=a), {}) for a in (None, 0.0))
    np.testing.assert_allclose(unknown, [[1, np.log10(7), 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(known, [[1, np.log10(7), 0, 1]], rtol=1e-6)
    np.testing.assert_allclose(control.observe("pulls", situation(accuracy=0.25), {})[0, 2:], [0.25, 1])
    assert spec.observation_space.contains(known)
    assert control.stages(situation()) == [["pulls"]]
    assert control.stages(situation([], [])) == []


def test_pulls_scale_lambda_gamma_and_beta_on_a_logarithmic_scale():
    seen = situation()
    # 4^0.5 = 2 and 4^−0.5 = ½; nothing comes near a limit.
    decided = pulls().decide(seen, {"pulls": np.array([0.5, -0.5, 0.5])})
    assert decided == Decisions({2: {}, 3: {}, 5: {}}, {"lam": 1.0, "gamma": 0.75, "beta": 1.2})
    both = pulls(lambda_device=0.5, lambda_team=2.0).decide(seen, {"pulls": np.array([-1.0, 0.0, -1.0])})
    assert both.server == {"lam": 0.125, "lam_team": 0.5, "gamma": 1.5, "beta": 0.15}
    assert pulls().describe(seen, {"pulls": np.zeros(3)}) == {"lam": 0.5, "gamma": 1.5, "beta": 0.6}


@pytest.mark.filterwarnings(
    "ignore:.*theorems do not hold:strata.engine.errors.StrataWarning"
)  # allowed, and not the point
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta": 1.3},  # βγ = 1.95 of 2
        {"eta": 0.9},  # η(λ_t + γ) = 1.8 of 2
        {"alpha": 3.9},  # αλ_d = 1.95 of 2
        {"eta": 0.05, "lambda_team": 38.0},  # η(λ_t + γ) = 1.975 of 2
    ],
)
def test_no_pull_makes_a_model_diverge_and_none_is_beyond_its_range(settings):
    control = pulls(**settings)
    for action in itertools.product((-1.0, -0.3, 0.0, 0.7, 1.0), (-1.0, 0.0, 0.4, 1.0), (-1.0, -0.2, 0.0, 1.0)):
        asked = [4**one for one in action]
        for got, wanted in zip(control.factors(np.array(action)), asked, strict=True):
            assert min(1, wanted) - 1e-12 <= got <= max(1, wanted) + 1e-12
        told = control.decide(situation(), {"pulls": np.array(action)}).server
        changed = {"lambda_device": told["lam"], "gamma": told["gamma"], "lambda_team": told.get("lam_team")}
        check(PerMFLConfig(**{**settings, **changed, "beta": told["beta"]}))
    assert control.factors(np.zeros(3)) == (1.0, 1.0, 1.0)


def test_a_pull_that_is_too_strong_uses_nearly_all_the_room():
    # βγ = 1.2 may rise by 0.99 · 0.8; asked for: by 3.6, of which λ's rise gets the same share.
    lam, gamma, beta = pulls(beta=0.8).factors(np.array([0.5, 1.0, 0.0]))
    share = 0.99 * 0.8 / 3.6
    assert (lam, gamma, beta) == pytest.approx((1 + share * 1, 1 + share * 3, 1))
    # Both may rise together until their product has used it up.
    _, gamma, beta = pulls(beta=0.8).factors(np.array([0.0, 1.0, 0.5]))
    assert 1.2 * gamma * beta == pytest.approx(1.2 + 0.99 * 0.8)
    assert (gamma - 1) / (beta - 1) == pytest.approx(3)


@pytest.mark.filterwarnings("ignore::strata.engine.errors.StrataWarning")
def test_what_is_configured_beyond_a_limit_is_not_raised_further_and_may_be_lowered():
    # βγ = 4.95, as the released code has it.
    control = pulls(gamma=5.0, beta=0.99, lambda_device=20.0, lambda_team=5.0)
    assert control.factors(np.array([0.5, 0.5, 0.0])) == (1.0, 1.0, 1.0)
    assert control.factors(np.array([0.0, 0.0, 1.0])) == (1.0, 1.0, 1.0)
    assert control.factors(np.array([0.0, -0.5, -0.5])) == (1.0, 0.5, 0.5)


@pytest.mark.parametrize("gain", [0.03, -0.03])
def test_pulls_are_paid_the_gain(gain):
    assert pulls().rewards(situation(), {"pulls": np.zeros(3)}, report(gain=gain)) == {"pulls": gain}


@pytest.mark.parametrize("team", [(), ("method.lambda_team=0.6",)])
def test_a_constant_pull_is_the_same_as_configuring_it(team):
    action = np.array([-0.5, 0.5, -0.5])  # λ and β halved, γ doubled: 0.25, 0.3 and 3
    got, _ = decided_run(small("permfl", *team), lambda control: Constant({"pulls": action}))
    configured = [
        "method.lambda_device=0.25",
        "method.gamma=3",
        "method.beta=0.3",
        *(("method.lambda_team=0.3",) if team else ()),
    ]
    assert got == plain_run(small("permfl", *configured))


def test_the_plain_environment_of_a_tiered_method_is_gymnasiums():
    import strata.envs  # noqa: F401  # makes the environment known to gymnasium

    env = gymnasium.make(
        "Strata/FederatedRounds-v0",
        disable_env_checker=True,
        method="permfl",
        overrides=small_overrides("permfl"),
        fidelity="full",
        rounds=4,
    ).unwrapped
    check_env(env, skip_render_check=True, skip_close_check=True)
    env.close()
