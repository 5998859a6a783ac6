"""The decisions of FedAvg and FedProx: by hand, and through the environments, which know none of them."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from strata.engine.method.situation import Decisions
from tests.helpers.decisions import CLIENTS, Constant, decided_run, plain_run, report, selection, situation
from tests.helpers.small import small, small_overrides


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


def test_a_constant_selection_is_the_same_fixed_plan():
    config = small("fedavg", "method.epochs=5")
    actions = {"selection": [1, 0, 1, 1, 0, 1, 1, 0], "epochs": [0, 0, 1, 2, 0, 0, 2, 0]}
    got, reports = decided_run(config, lambda control: Constant(actions))
    plan = {0: {"epochs": 3}, 2: {"epochs": 5}, 3: {"epochs": 7}, 5: {"epochs": 3}, 6: {"epochs": 7}}
    assert got == plain_run(config, Decisions(plan))
    assert [report.calls.client.tolist() for report in reports] == [[0, 2, 3, 5, 6]] * 3


@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_the_plain_environment_is_gymnasiums(method):
    from strata.envs.plain import FederatedRounds

    env = FederatedRounds(method=method, overrides=small_overrides(method), rounds=4)
    check_env(env, skip_render_check=True)
    env.close()
