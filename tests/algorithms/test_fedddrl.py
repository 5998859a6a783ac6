"""FedDdrl: what its agents choose from and are paid, and that they learn to leave a slow client out."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from strata.algorithms.fedavg import FedAvg
from strata.algorithms.fedddrl import DdrlControl, FedDdrl, FedDdrlConfig
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.models.spec import ModelSpec
from strata.engine.options import check
from tests.helpers.calls import report as report_of
from tests.helpers.decisions import Priced, models, play, situation
from tests.helpers.small import small, small_overrides

MODEL = ModelSpec("mclr", (2,), 2, ())
SLOW = 3


def control(**settings):
    return DdrlControl(FedDdrl(FedDdrlConfig(**settings), MODEL), [], Priced(), 4)


def report(round_s, gain):
    return report_of(range(3), round_s, gain=gain)


def test_two_value_decomposition_agents_choose_from_the_menu():
    ddrl = control(menu=[2, 4])
    assert {agent: spec.learner for agent, spec in ddrl.agents.items()} == {"selection": "vdn", "epochs": "vdn"}
    assert ddrl.agents["epochs"].action_space.nvec.tolist() == [2] * 4
    chosen = {"selection": np.array([1, 0, 1, 0]), "epochs": np.array([0, 1, 1, 0])}
    assert ddrl.decide(situation(), chosen).clients == {2: {"epochs": 2}, 5: {"epochs": 4}}
    in_steps = control(steps=20, menu=[10, 30])
    assert in_steps.decide(situation(), chosen).clients == {2: {"steps": 10}, 5: {"steps": 30}}


def test_uniform_is_the_entry_nearest_to_the_default():
    ddrl, seen = control(epochs=4), situation()  # 5/4 is nearer to 1 than 3/4, and 7/4
    assert ddrl.menu[ddrl.suggest("uniform", "epochs", seen, {}, None)[:3]].tolist() == [5, 5, 5]


def test_the_reward_is_a_gain_less_latency_less_uploads():
    ddrl = control(accuracy_reward=20.0, latency_cost=3.0, upload_cost=0.6)
    chosen = {"selection": np.array([1, 0, 1, 0]), "epochs": np.zeros(4, int)}
    # Everyone for the default 5 epochs takes 17 s, as for FedAvg; two of three upload.
    expected = 20 * 0.01 - 3 * 0.5 - 0.6 * 2 / 3
    rewards = ddrl.rewards(situation(), chosen, report(8.5, 0.01))
    assert rewards == pytest.approx({"selection": expected, "epochs": expected})
    fewer = {**chosen, "selection": np.array([1, 0, 0, 0])}
    assert ddrl.rewards(situation(), fewer, report(8.5, 0.01))["epochs"] > expected


@pytest.mark.parametrize("menu", [[], [3, 3], [5, 3]])
def test_a_menu_that_is_none_is_refused(menu):
    with pytest.raises(ConfigError, match=r"menu=.*ascending order"):
        check(FedDdrlConfig(menu=menu))
    with pytest.raises(ConfigError, match="menu=0 is out of range: expected ≥ 1"):
        check(FedDdrlConfig(menu=[0, 3]))


def test_without_agents_it_is_fedavg():
    assert issubclass(FedDdrl, FedAvg)
    prints = []
    for method in ("fedddrl", "fedavg"):
        with Federation(small(method, "rounds=2", "method.epochs=2", "method.lr=0.05", "method.batch_size=16")) as run:
            for _ in run:
                pass
            prints.append(models(run))
    assert prints[0] == prints[1]


def test_the_plain_environment_is_gymnasiums():
    from strata.envs.plain import FederatedRounds

    env = FederatedRounds(method="fedddrl", overrides=small_overrides("fedddrl"), rounds=4)
    check_env(env, skip_render_check=True)
    env.close()


@pytest.fixture
def one_slow_client(tmp_path):
    """Eight clients with good networks, one of them twenty times slower than the others; timed only."""
    from strata.envs.opening import timing_turns

    rows = [f"{client},{1e6 if client == SLOW else 2e7},1e9,1e9,0.001" for client in range(8)]
    trace = tmp_path / "speeds.csv"
    trace.write_text("\n".join(["client,flops_per_s,down_bytes_per_s,up_bytes_per_s,latency_s", *rows]) + "\n")
    config = small("fedddrl", "delays=trace", f"delays.trace={trace}")
    return config, timing_turns(config)


def test_it_learns_to_leave_out_the_one_slow_client(one_slow_client):
    from strata.agents.rllib_policies import LearntPolicies

    config, turns = one_slow_client
    assert config.agents.policy == "rllib"
    policies = LearntPolicies(turns.control.agents, config.agents, config.seed)
    results = play(turns, policies, rounds=150)
    for loss in ("agents/selection/total_loss", "agents/epochs/total_loss"):
        losses = [done.metrics[loss] for done in results if loss in done.metrics]
        assert len(losses) == 150 / config.agents.rounds_per_update
        assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 4
    policies.learning = False
    (done,) = play(turns, policies, rounds=1)
    report = done.played.report
    assert SLOW not in report.calls.client
    assert len(report.calls) > 0
    everyone = turns.control.expected_s(turns.open().situation)
    assert report.round_s < everyone / 5
