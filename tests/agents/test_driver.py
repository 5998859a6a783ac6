"""The loop that drives an environment: who is asked what and when, and what comes back."""

import pytest

from strata.agents.driver import Driver
from strata.envs.stages import StagedRounds
from tests.helpers.toys import arms, turns

AGENTS = {"first": arms(), "second": arms()}


class Noting:
    """Policies that note what they are asked and paid, and always act alike."""

    def __init__(self):
        self.acts, self.paid = [], []

    def act(self, round, situation, chosen, seen):
        self.acts.append((round, sorted(chosen), sorted(seen)))
        return {agent: AGENTS[agent].action_space.nvec * 0 for agent in seen}

    def learn(self, round, rewards):
        self.paid.append((round, sorted(rewards)))
        return {"agents/learnt": float(round)}


@pytest.fixture
def resets(monkeypatch):
    """Counts the windows that environments open."""
    opened = []
    reset = StagedRounds.reset
    monkeypatch.setattr(StagedRounds, "reset", lambda self, **options: opened.append(self) or reset(self, **options))
    return opened


def driven(rounds=1, cohorts=()):
    policies = Noting()
    return Driver(StagedRounds({"turns": turns(AGENTS, cohorts=cohorts), "rounds": rounds}), policies), policies


def test_each_stage_is_asked_with_what_was_chosen_before_and_all_are_paid_at_the_end():
    driver, policies = driven()
    for _ in range(2):
        driver.run_round()
    assert policies.acts == [
        (1, [], ["first"]), (1, ["first"], ["second"]), (2, [], ["first"]), (2, ["first"], ["second"])
    ]  # fmt: skip
    assert policies.paid == [(1, ["first", "second"]), (2, ["first", "second"])]


def test_a_result_joins_the_curves_of_environment_and_policies():
    driver, _ = driven()
    driver.run_round()
    result = driver.run_round()
    assert result.metrics["agents/learnt"] == 2.0
    assert {"agents/first/reward", "agents/second/reward"} <= set(result.metrics)
    assert result.metrics["agents/first/reward"] == result.played.rewards["first"]
    assert result.agents_s >= 0


def test_a_round_to_which_nobody_came_is_played_and_nobody_is_paid():
    driver, policies = driven(cohorts=[[], [0, 1]])
    assert driver.run_round().played.rewards == {}
    assert policies.acts == [(1, [], [])]
    assert policies.paid == [(1, [])]
    driver.run_round()
    assert policies.paid[1] == (2, ["first", "second"])


@pytest.mark.parametrize(("window", "opened"), [(1, 4), (2, 2), (3, 2), (9, 1)])
def test_a_window_is_opened_when_the_one_before_is_over(resets, window, opened):
    driver, _ = driven(window)
    assert resets == []  # nothing is opened before the first round
    for _ in range(4):
        driver.run_round()
    assert len(resets) == opened


def test_a_forgotten_window_is_not_played_on(resets):
    driver, _ = driven(9)
    driver.run_round()
    driver.forget()
    driver.run_round()
    assert len(resets) == 2
