"""The decisions of FedAvg, FedProx and PerMFL: by hand, and through the environments, which know none of them."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from strata.agents.policies import RulePolicies
from strata.algorithms.controls.pulls import PullsControl
from strata.algorithms.controls.selection import SelectionControl
from strata.algorithms.fedavg import FedAvg, FedAvgConfig
from strata.algorithms.permfl import PerMFL, PerMFLConfig
from strata.engine.build import build_world
from strata.engine.federation import Federation
from strata.engine.method.messages import ClientInfo
from strata.engine.method.situation import Cost, Decisions, Report, Situation
from strata.engine.models.spec import ModelSpec
from strata.engine.options import check
from strata.engine.rounds.costs import CallCosts
from strata.engine.tree import fingerprint
from tests.helpers.small import small, small_overrides

MODEL = ModelSpec("mclr", (2,), 2, ())
CLIENTS = [2, 3, 5]


class Priced:
    """100 FLOPs for the probe; a call has 10 bytes each way, and 100 FLOPs for each unit of work, 5 by default."""

    def call(self, client, assignment):
        return Cost(10, 10, 100 * assignment.get("epochs", assignment.get("steps", 5)))

    def probe(self, client):
        return Cost(10, 0, 100)


def selection(k=4, **settings):
    """FedAvg's control for cohorts of up to ``k`` of six clients; client i has 10·(i + 1) samples of two classes."""
    infos = [ClientInfo(i, None, 10 * (i + 1), 5, np.array([5 * (i + 1)] * 2), "any", 1.0) for i in range(6)]
    return SelectionControl(FedAvg(FedAvgConfig(**{"epochs": 5, **settings}), MODEL), infos, Priced(), k)


def situation(clients=CLIENTS, s_per_flop=(0.01, 0.02, 0.03), s_per_byte=0.1, **known):
    k = len(clients)
    return Situation(
        7, clients, np.zeros(k), np.array(s_per_flop), np.full(k, s_per_byte), np.full(k, s_per_byte), **known
    )


def report(round_s=1.0, gain=0.0, n=3):
    zeros = np.zeros(n)
    return Report(
        np.arange(n),
        np.ones(n, bool),
        np.zeros(n, bool),
        zeros,
        zeros,
        zeros,
        zeros,
        zeros,
        zeros,
        zeros,
        round_s,
        0.0,
        accuracy=0.5,
        gain=gain,
    )


def test_selection_sees_one_row_per_client_and_epochs_see_who_was_kept():
    control, seen = selection(k=4), situation()
    first = control.observe("selection", seen, {})
    # Probe times 1, 2 and 3 s, mean 2; 30, 40 and 60 samples, mean 130/3; two classes alike: ln 2 nats.
    rows = [
        [1, p / 2 - 1, np.log(p / 2), n / (130 / 3) - 1, np.log(2)]
        for p, n in zip((1, 2, 3), (30, 40, 60), strict=True)
    ]
    np.testing.assert_allclose(first, np.array([*rows, [0] * 5]), rtol=1e-6)
    second = control.observe("epochs", seen, {"selection": np.array([1, 0, 1, 1])})
    np.testing.assert_array_equal(second[:, :5], first)
    assert second[:, 5].tolist() == [1, 0, 1, 0]
    for agent, observation in (("selection", first), ("epochs", second)):
        assert control.agents[agent].observation_space.contains(observation)


def test_selection_acts_first_and_nobody_acts_for_nobody():
    control = selection(k=4)
    assert control.stages(situation()) == [["selection"], ["epochs"]]
    assert control.stages(situation([], [])) == []
    assert control.agents["selection"].action_space.nvec.tolist() == [2, 2, 2, 2]
    assert control.agents["epochs"].action_space.nvec.tolist() == [3, 3, 3, 3]
    assert {spec.learner for spec in control.agents.values()} == {"ppo"}


@pytest.mark.parametrize(
    ("settings", "menu", "unit"),
    [
        ({"epochs": 5}, [3, 5, 7], "epochs"),  # 0.6, 1 and 1.4 times 5
        ({"epochs": 1}, [1, 1, 1], "epochs"),  # 0.6 and 1.4 round to 1
        ({"epochs": 0, "steps": 20}, [12, 20, 28], "steps"),
    ],
)
def test_the_menu_is_of_multiples_of_the_methods_own_work(settings, menu, unit):
    control = selection(**settings)
    assert control.menu.tolist() == menu
    chosen = {"selection": np.ones(4, int), "epochs": np.array([0, 1, 2, 0])}
    assert control.decide(situation(), chosen).clients == {
        c: {unit: work} for c, work in zip(CLIENTS, menu, strict=True)
    }


def test_the_dropped_are_left_out_unless_nobody_is_kept():
    control, epochs = selection(), np.array([2, 1, 0, 0])
    # The fourth entry belongs to no client.
    assert control.decide(situation(), {"selection": np.array([1, 0, 1, 1]), "epochs": epochs}).clients == {
        2: {"epochs": 7},
        5: {"epochs": 3},
    }
    nobody = {"selection": np.array([0, 0, 0, 1]), "epochs": epochs}
    assert control.decide(situation(), nobody).clients == {2: {"epochs": 7}, 3: {"epochs": 5}, 5: {"epochs": 3}}
    assert control.observe("epochs", situation(), nobody)[:, 5].tolist() == [1, 1, 1, 0]
    assert control.describe(situation(), nobody) == {"kept": 3, "epochs_mean": 5}
    alone = {"selection": np.array([0, 0, 1, 0]), "epochs": epochs}
    assert control.describe(situation(), alone) == {"kept": 1, "epochs_mean": 3}


def test_rewards_rise_with_accuracy_and_fall_with_the_rounds_seconds():
    control, chosen = selection(), {"selection": np.array([1, 0, 1, 1]), "epochs": np.zeros(4, int)}
    # By default the slowest takes 20 bytes · 0.1 s + 500 FLOPs · 0.03 s = 17 s.
    rewards = control.rewards(situation(), chosen, report(round_s=8.5, gain=0.02))
    assert rewards == pytest.approx({"selection": 10 * 0.02 - 0.5, "epochs": 10 * 0.02 - 0.5})
    free = situation(s_per_flop=(0.0, 0.0, 0.0), s_per_byte=0.0)
    assert control.rewards(free, chosen, report(round_s=0.0)) == {"selection": 0, "epochs": 0}


def test_greedy_drops_the_slowest_quarter_and_evens_the_rest_out():
    control = selection(k=5)
    seen = situation([0, 1, 3, 4], s_per_flop=(1 / 50, 1 / 60, 1 / 25, 1 / 2))
    kept = control.suggest("greedy", "selection", seen, {}, None)
    assert kept.tolist() == [1, 1, 1, 0, 0]
    # Of the kept, 1/p is as 50, 60 and 25, whose mean is 45; 5 epochs times that over the mean: 5.56, 6.67 and 2.78.
    # (Against the mean of all, 34.25, the first would have 7.3.) Nearest by ratio, with 5 and 7 meeting at √35 = 5.92:
    epochs = control.suggest("greedy", "epochs", seen, {"selection": kept}, None)
    assert control.menu[epochs[:3]].tolist() == [5, 7, 3]
    assert epochs[4] == 0
    three = control.suggest("greedy", "selection", situation(), {}, None)
    assert three.tolist() == [1, 1, 1, 0, 0], "a quarter of three is nobody"


def test_uniform_is_the_methods_default_and_unknown_rules_are_refused():
    control, seen = selection(), situation()
    kept = control.suggest("uniform", "selection", seen, {}, None)
    chosen = {"selection": kept, "epochs": control.suggest("uniform", "epochs", seen, {"selection": kept}, None)}
    assert control.decide(seen, chosen).clients == {2: {"epochs": 5}, 3: {"epochs": 5}, 5: {"epochs": 5}}
    draws = np.random.default_rng(0)
    assert control.agents["selection"].action_space.contains(control.suggest("random", "selection", seen, {}, draws))
    for asked, agent in ((control, "selection"), (pulls(), "pulls")):
        with pytest.raises(ValueError, match="clever: no such rule; expected one of uniform, random"):
            asked.suggest("clever", agent, seen, {}, draws)


def test_a_probe_is_an_epoch_of_the_model_and_uploads_nothing():
    world = build_world(small("fedavg", "method.epochs=3"))
    costs = CallCosts(world)
    for client in (0, 5):
        probe, call = costs.probe(client), costs.call(client, {"epochs": 1})
        assert probe == Cost(call.bytes_down, 0, call.flops)
        assert costs.call(client, {}).flops == 3 * probe.flops


def pulls(**settings):
    return PullsControl(PerMFL(PerMFLConfig(**settings), MODEL), [], Priced(), 6)


def test_pulls_are_one_row_and_two_numbers_whatever_the_cohort():
    control = pulls()
    (spec,) = control.agents.values()
    assert (spec.observation_space.shape, spec.action_space.shape) == ((1, 4), (2,))
    unknown, known = (control.observe("pulls", situation(accuracy=a), {}) for a in (None, 0.0))
    np.testing.assert_allclose(unknown, [[1, np.log10(7), 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(known, [[1, np.log10(7), 0, 1]], rtol=1e-6)
    np.testing.assert_allclose(control.observe("pulls", situation(accuracy=0.25), {})[0, 2:], [0.25, 1])
    assert spec.observation_space.contains(known)
    assert control.stages(situation()) == [["pulls"]]
    assert control.stages(situation([], [])) == []


def test_pulls_scale_lambda_and_gamma_on_a_logarithmic_scale():
    seen = situation()
    # 4^0.5 = 2 and 4^−0.5 = ½; nothing comes near a limit.
    decided = pulls().decide(seen, {"pulls": np.array([0.5, -0.5])})
    assert decided == Decisions({2: {}, 3: {}, 5: {}}, {"lam": 1.0, "gamma": 0.75})
    both = pulls(lambda_device=0.5, lambda_team=2.0).decide(seen, {"pulls": np.array([-1.0, 0.0])})
    assert both.server == {"lam": 0.125, "lam_team": 0.5, "gamma": 1.5}
    assert pulls().describe(seen, {"pulls": np.zeros(2)}) == {"lam": 0.5, "gamma": 1.5}


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
    for a in (-1.0, -0.3, 0.0, 0.7, 1.0):
        for b in (-1.0, 0.0, 0.4, 1.0):
            lam, gamma = control.factors(np.array([a, b]))
            asked = 4**a, 4**b
            for got, wanted in zip((lam, gamma), asked, strict=True):
                assert min(1, wanted) - 1e-12 <= got <= max(1, wanted) + 1e-12
            told = control.decide(situation(), {"pulls": np.array([a, b])}).server
            changed = {"lambda_device": told["lam"], "gamma": told["gamma"], "lambda_team": told.get("lam_team")}
            check(PerMFLConfig(**{**settings, **changed}))
    assert control.factors(np.zeros(2)) == (1.0, 1.0)


def test_a_pull_that_is_too_strong_uses_nearly_all_the_room():
    # βγ = 1.2 may rise by 0.99 · 0.8; asked for: by 3.6, of which λ's rise gets the same share.
    lam, gamma = pulls(beta=0.8).factors(np.array([0.5, 1.0]))
    share = 0.99 * 0.8 / 3.6
    assert (lam, gamma) == pytest.approx((1 + share * 1, 1 + share * 3))


@pytest.mark.parametrize("gain", [0.03, -0.03])
def test_pulls_are_paid_the_gain(gain):
    assert pulls().rewards(situation(), {"pulls": np.zeros(2)}, report(gain=gain)) == {"pulls": gain}


class Constant:
    """The same actions in every round."""

    def __init__(self, actions):
        self.actions = actions

    def act(self, round, situation, chosen, seen):
        return {agent: np.array(self.actions[agent]) for agent in seen}

    def learn(self, round, rewards):
        return {}


def play(turns, policies, rounds=3):
    """Drive a window of rounds; gives what came of each."""
    from strata.agents.driver import Driver
    from strata.envs.multi_agent import FederatedRoundsEnv

    driver = Driver(FederatedRoundsEnv({"turns": turns, "rounds": rounds}), policies)
    return [driver.run_round() for _ in range(rounds)]


def decided_run(config, policies):
    """A federation after three rounds with decisions; ``policies``: from the control."""
    from strata.envs.opening import full_turns

    with Federation(config) as federation:
        turns = full_turns(federation)
        results = play(turns, policies(turns.control))
        return models(federation), [result.played.report for result in results]


def plain_run(config, decisions=None):
    """The same without an environment."""
    with Federation(config) as federation:
        for _ in range(3):
            federation.run_round(decisions)
        return models(federation)


def models(federation):
    """All models to the bit, by owner: not the messages and pulls that lie beside them."""
    snapshot = federation._backend.snapshot()
    teams = {team: state.w for team, state in snapshot.teams.items()}
    return fingerprint((federation.world.algorithm.global_model(snapshot.server), teams, snapshot.clients))


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "permfl"])
def test_uniform_decisions_give_the_models_of_a_run_without_agents(method):
    extra = () if method == "permfl" else ("method.epochs=2", "clients.participation=0.6", "delays.dropout=0.2")
    config = small(method, *extra)
    got, reports = decided_run(config, lambda control: RulePolicies("uniform", control, 0))
    assert got == plain_run(config)
    assert len(reports) == 3
    random, _ = decided_run(config, lambda control: RulePolicies("random", control, 0))
    assert random != got, "the comparison would hold for decisions that change nothing"


def test_a_constant_selection_is_the_same_fixed_plan():
    config = small("fedavg", "method.epochs=5")
    actions = {"selection": [1, 0, 1, 1, 0, 1, 1, 0], "epochs": [0, 0, 1, 2, 0, 0, 2, 0]}
    got, reports = decided_run(config, lambda control: Constant(actions))
    plan = {0: {"epochs": 3}, 2: {"epochs": 5}, 3: {"epochs": 7}, 5: {"epochs": 3}, 6: {"epochs": 7}}
    assert got == plain_run(config, Decisions(plan))
    assert [report.clients.tolist() for report in reports] == [[0, 2, 3, 5, 6]] * 3


@pytest.mark.parametrize("team", [(), ("method.lambda_team=0.6",)])
def test_a_constant_pull_is_the_same_as_configuring_it(team):
    action = np.array([-0.5, 0.5])  # λ halved, γ doubled: 0.25 and 3, βγ = 1.8
    got, _ = decided_run(small("permfl", *team), lambda control: Constant({"pulls": action}))
    configured = ["method.lambda_device=0.25", "method.gamma=3", *(("method.lambda_team=0.3",) if team else ())]
    assert got == plain_run(small("permfl", *configured))


def test_rounds_of_the_timing_model_have_the_seconds_of_real_ones():
    from strata.envs.opening import full_turns, timing_turns

    config = small(
        "fedavg",
        "rounds=8",
        "method.epochs=5",
        "clients.mode=deadline",
        "clients.deadline_s=0.13",
        "delays=lognormal",
        "delays.median_flops_per_s=1e8",
        "delays.dropout=0.15",
        "delays.availability=0.7",
    )
    with Federation(config) as federation:
        turns = full_turns(federation)
        full = [done.played.report for done in play(turns, RulePolicies("random", turns.control, 0), rounds=8)]
    timed = timing_turns(config)
    timing = [done.played.report for done in play(timed, RulePolicies("random", timed.control, 0), rounds=8)]
    for a, b in zip(full, timing, strict=True):
        assert a.round_s == b.round_s
        assert a.straggling_s == b.straggling_s
        assert a.clients.tolist() == b.clients.tolist()
        assert a.completed.tolist() == b.completed.tolist()
        assert a.total_s.tolist() == b.total_s.tolist()
    failed = np.concatenate([report.total_s[~report.completed] for report in full])
    assert (failed > 0.13).any(), "nobody was late"
    assert (failed < 0.13).any(), "nobody was lost"
    assert any(len(report.clients) < 8 for report in full), "everybody was there and kept"


@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_the_plain_environment_is_gymnasiums(method):
    from strata.envs.plain import FederatedRounds

    env = FederatedRounds(method=method, overrides=small_overrides(method), rounds=4)
    check_env(env, skip_render_check=True)
    env.close()


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
