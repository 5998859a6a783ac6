"""The search: rewards by hand, the policies' steps by hand, the best architecture found."""

import numpy as np
import pytest
import torch

from strata.agents.driver import Driver
from strata.agents.rllib_policies import LearntPolicies
from strata.algorithms.controls.searching import SearchControl
from strata.engine.build import build_world
from strata.engine.config.agents import AgentsConfig
from strata.engine.method.control import Relative
from strata.engine.method.situation import Situation
from strata.engine.seeding import generator
from strata.envs.multi_agent import FederatedRoundsEnv
from strata.envs.opening import control_of
from strata.envs.turns import Turns
from tests.helpers.calls import report
from tests.helpers.supernets import FOUR, info_of, method_of, searching

# --- rewards --------------------------------------------------------------------------------------------------------


def report_of(clients, seconds, completed=None, **metrics):
    lost = None if completed is None else ~np.array(completed)
    columns = {name: np.array(values) for name, values in metrics.items()}
    return report(clients, 9.0, lost=lost, compute_s=np.array(seconds, float), metrics=columns)


def rewards_of(made, best, **settings):
    method = method_of(**settings)
    control = SearchControl(method, [info_of(client) for client in range(5)], None, 3)
    unknown = np.full(len(made.calls), np.nan)
    everyone = {} if best is None else {"best_accuracy": np.array(best)}
    now = Situation(4, made.calls.client.tolist(), *[unknown] * 4, everyone=everyone)
    return control.rewards(now, {}, made)


PUBLISHED = {"reward": "published"}


def test_the_published_reward_by_hand():
    """0.01 a second over the fastest, 0.2 for conflict; the clients seen had 0.2, 0.4 and 0.9 at best."""
    nan = float("nan")
    report = report_of([0, 1, 3], [5.0, 3.0, 8.0], accuracy=[0.6, 0.3, 0.0], conflict=[0.25, 0.0, nan])
    found = rewards_of(report, [0.2, 0.4, nan, 0.9, nan], lambda_time=0.01, lambda_neg=0.2, **PUBLISHED)
    assert found == {
        "client_0": pytest.approx(0.6 - 0.5 - 0.02 - 0.05),
        "client_1": pytest.approx(0.3 - 0.5),
        "client_3": pytest.approx(0.0 - 0.5 - 0.05),  # over its budget: wrong everywhere, and no delta to conflict
    }


def test_before_anybody_was_seen_the_baseline_is_the_mean_that_came_in():
    report = report_of([1, 2], [1.0, 1.0], accuracy=[0.8, 0.4], conflict=[0.0, 0.0])
    expected = {"client_1": pytest.approx(0.2), "client_2": pytest.approx(-0.2)}
    assert rewards_of(report, None, **PUBLISHED) == expected


def test_what_is_held_against_a_clients_own_past_has_no_common_baseline_unless_asked_for():
    """As above, and client 3 is 2 seconds late; a call that did not fit is worth 0, whatever its seconds."""
    nan = float("nan")
    columns = {"accuracy": [0.6, 0.0, 0.3], "conflict": [0.25, nan, 0.0], "batch_size": [16, 0, 8]}
    report = report_of([0, 1, 3], [3.0, 5.0, 5.0], **columns)
    prices = {"lambda_time": 0.01, "lambda_neg": 0.2}
    own = {"client_0": 0.6 - 0.05, "client_1": 0.0, "client_3": 0.3 - 0.02}
    assert rewards_of(report, [0.2, nan, nan, 0.8, nan], **prices) == pytest.approx(own)
    less = rewards_of(report, [0.2, nan, nan, 0.8, nan], baseline_calls=0, **prices)
    assert less == pytest.approx({client: paid - 0.5 for client, paid in own.items()})


def test_who_was_lost_is_neither_paid_nor_the_fastest():
    report = report_of([1, 2], [1.0, 4.0], [False, True], accuracy=[0.9, 0.4], conflict=[0.0, 0.5])
    assert rewards_of(report, [0.4] * 5, lambda_neg=0.2, **PUBLISHED) == {"client_2": pytest.approx(-0.1)}
    nobody = report_of([1], [1.0], [False], accuracy=[0.9], conflict=[0.0])
    assert rewards_of(nobody, [0.4] * 5, **PUBLISHED) == {}


@pytest.mark.parametrize("settings", [PUBLISHED, {}, {"baseline_calls": 0}])
def test_a_timed_round_pays_latency_alone(settings):
    assert rewards_of(report_of([1, 2], [1.0, 4.0]), None, lambda_time=0.01, **settings) == {
        "client_1": pytest.approx(0.0),
        "client_2": pytest.approx(-0.03),
    }


# --- the search -----------------------------------------------------------------------------------------------------


class Toy:
    """Rounds in which client i's accuracy is 0.9 with its own best architecture, and less for every other choice."""

    def __init__(self, method, clients, invited):
        self.round, self._clients, self._invited = 0, clients, invited
        self._space, self.known = method.supernet.space, np.zeros(clients)
        self.best = [self._space.random(client) for client in range(clients)]

    def invite(self):
        drawn = generator(3, "cohort", self.round).choice(self._clients, self._invited, replace=False)
        return sorted(int(client) for client in drawn)

    def play(self, decisions):
        clients = np.array(sorted(decisions.clients))
        chosen = [self._space.named(decisions.clients[client]["architecture"]) for client in clients]
        free = sum(size > 1 for size in self._space.sizes)
        wrong = [
            sum(a != b for a, b in zip(one, self.best[c], strict=True)) for one, c in zip(chosen, clients, strict=True)
        ]
        accuracy = 0.9 * (1 - np.array(wrong) / free)
        self.known[clients] = np.maximum(self.known[clients], accuracy)
        self.round += 1
        best = self.known[clients].copy()
        return report_of(clients, np.ones(len(clients)), accuracy=accuracy, best_accuracy=best, conflict=best * 0)


class Uneven(Toy):
    """Rounds whose clients differ by up to 0.65 in accuracy, what they draw by 0.1, and one call from the next by 0.02.

    All clients have the same best architecture.
    """

    def __init__(self, method, clients, invited):
        super().__init__(method, clients, invited)
        self.known, self.right = np.full(clients, np.nan), []
        self._ease = generator(0, "ease").permutation(np.linspace(0.2, 0.85, clients))
        self._free = np.array(self._space.sizes) > 1

    def play(self, decisions):
        clients = np.array(sorted(decisions.clients))
        chosen = np.array([self._space.named(decisions.clients[client]["architecture"]) for client in clients])
        right = (chosen == self.best[0])[:, self._free].mean(1)
        noise = generator(0, "noise", self.round).normal(0, 0.02, len(clients))
        accuracy = self._ease[clients] + 0.1 * right + noise
        self.known[clients] = np.fmax(self.known[clients], accuracy)
        self.right.append(right.mean())
        self.round += 1
        best = self.known[clients].copy()
        return report_of(clients, np.ones(len(clients)), accuracy=accuracy, best_accuracy=best, conflict=best * 0)


MORE = {**FOUR, "stage2.width": [16, 24], "stage2.kernel": [3, 5], "stage3.kernel": [3, 5]}
MORE |= {"stage2.expansion": [2, 3, 4], "stage3.expansion": [2, 3, 4]}


CLIENTS, INVITED = 20, 5


def mean_right(rounds, **settings):
    """The share of slots that are drawn right in the last third of the rounds."""
    toy = Uneven(method_of(MORE, **settings), CLIENTS, INVITED)
    control = SearchControl(method_of(MORE, **settings), [info_of(client) for client in range(CLIENTS)], None, INVITED)
    policies = LearntPolicies(control.agents, AgentsConfig(policy="rllib"), 0)
    driver = Driver(FederatedRoundsEnv({"turns": Turns(toy, control, CLIENTS), "rounds": 1}), policies)
    for _ in range(rounds):
        driver.run_round()
    return np.mean(toy.right[-rounds // 3 :])


def test_where_clients_differ_more_than_architectures_the_published_reward_finds_nothing_and_the_own_past_does():
    """An agent that settles on anything is right with probability 1/n in a slot of n options, with deviation ≤ ½."""
    sizes = [size for size in method_of(MORE).supernet.space.sizes if size > 1]
    at_random, deviation = np.mean([1 / size for size in sizes]), 0.5 / (CLIENTS * len(sizes)) ** 0.5
    assert mean_right(36, **PUBLISHED) < at_random + 3 * deviation
    assert mean_right(27) > at_random + 9 * deviation


def probabilities(policies, agent, architecture, sizes):
    logits = policies._learners["reinforce"].module[agent].unwrapped().logits.detach().split(list(sizes))
    return float(torch.stack([part.softmax(0)[i] for part, i in zip(logits, architecture, strict=True)]).prod())


def test_the_search_finds_the_best_architecture_of_every_client():
    clients, invited, rounds = 8, 4, 120
    method = method_of({**FOUR, "stage2.expansion": [2, 3, 4]}, **PUBLISHED)
    toy = Toy(method, clients, invited)
    control = SearchControl(method, [info_of(client) for client in range(clients)], None, invited)
    policies = LearntPolicies(control.agents, AgentsConfig(policy="rllib"), 0)
    driver = Driver(FederatedRoundsEnv({"turns": Turns(toy, control, clients), "rounds": 1}), policies)
    sizes = method.supernet.space.sizes

    def sure():
        return [probabilities(policies, f"client_{c}", best, sizes) for c, best in enumerate(toy.best)]

    start = sure()
    np.testing.assert_allclose(start, 1 / 12, rtol=1e-5)
    first = driver.run_round()
    stayed = [p == before for p, before in zip(sure(), start, strict=True)]
    assert stayed == [f"client_{c}" not in first.played.rewards for c in range(clients)]
    entropies = [first.metrics["agents/entropy"]]
    for _ in range(rounds):
        entropies.append(driver.run_round().metrics["agents/entropy"])
    assert entropies[0] == pytest.approx(np.log(12), rel=1e-5)
    assert entropies[-1] < 0.5
    assert len({method.supernet.space.values(best)["stage2.expansion"] for best in toy.best}) == 3
    assert min(sure()) >= 0.9


def test_who_is_paid_takes_adams_first_step_and_who_is_not_stays():
    """α_d ← Adam on r (softmax(α_d) − onehot(a_d)); a first step of Adam is lr · g / (|g| + ε), whatever its size."""
    control = SearchControl(method_of(**PUBLISHED), [info_of(client) for client in range(3)], None, 2)
    policies = LearntPolicies(control.agents, AgentsConfig(policy="rllib"), 0)
    sizes = list(control.agents["client_0"].action_space.nvec)

    def logits(agent):
        return policies._learners["reinforce"].module[agent].unwrapped().logits.detach().double().numpy().copy()

    acted = policies.act(1, None, {}, {agent: np.ones(1, np.float32) for agent in ("client_0", "client_1")})
    policies.learn(1, {"client_1": -0.3})
    expected = []
    for size, option in zip(sizes, acted["client_1"], strict=True):
        gradient = -0.3 * (np.full(size, 1 / size) - np.eye(size)[option])
        expected.append(-0.5 * gradient / (abs(gradient) + 1e-8))
    np.testing.assert_allclose(logits("client_1"), np.concatenate(expected), atol=1e-5)
    assert not logits("client_0").any()
    assert not logits("client_2").any()
    before = logits("client_1")
    policies.act(2, None, {}, {"client_0": np.ones(1, np.float32)})
    policies.learn(2, {"client_0": 1.0})
    assert logits("client_0").any()
    np.testing.assert_array_equal(logits("client_1"), before)
    policies.act(3, None, {}, {"client_0": np.ones(1, np.float32)})
    assert policies.learn(3, {}) == {}


def test_a_control_comes_with_one_agent_per_client():
    world = build_world(searching("agents.policy=none"))
    control = control_of(searching("agents.policy=none"), world)
    assert list(control.agents) == [f"client_{client}" for client in range(8)]
    spec = control.agents["client_0"]
    assert all(other == spec for other in control.agents.values())
    assert (spec.learner, spec.relative, spec.lr) == ("relative", Relative(8, 0.9, 0.6), 0.3)
    config = searching("agents.policy=none", "method.reward=published")
    published = control_of(config, build_world(config))
    assert {(spec.learner, spec.lr) for spec in published.agents.values()} == {("reinforce", 0.5)}
    assert list(control.agents["client_0"].action_space.nvec) == list(world.algorithm.supernet.space.sizes)
