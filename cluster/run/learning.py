"""Agents from a configuration: fresh, saved, or pre-trained in the timing model; and how good they are there."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from strata.agents.driver import Driver, RoundResult
from strata.agents.policies import Policies, RulePolicies
from strata.engine.config.agents import AgentsConfig
from strata.engine.config.given import NOTHING, Given
from strata.engine.config.schema import RunConfig
from strata.engine.errors import AgentCheckpointError, StrataWarning
from strata.engine.method.calls import CallTable
from strata.engine.method.control import AgentId, Control
from strata.engine.method.situation import Report
from strata.engine.notify import Notify
from strata.engine.rounds.records import Outcome, RoundRecord
from strata.engine.rounds.scores import record
from strata.envs.opening import replayed, timing_turns
from strata.envs.stages import StagedRounds

POPULATIONS = 8  # of clients that pre-training within a run goes round
ENUMERABLE = 12  # clients per round up to which rules that try every possibility are compared with
HELD_OUT = 1_000_000  # populations from here on are never trained on


def make_policies(config: RunConfig, control: Control, notify: Notify, fresh: bool, given: Given = NOTHING) -> Policies:
    """The policies of a run, as its configuration says; ``fresh``: see :class:`strata.cluster.run.session.Session`.

    Raises:
        AgentCheckpointError: when saved agents do not fit.
    """
    settings = config.agents
    if settings.policy != "rllib":
        return RulePolicies(settings.policy, control, config.seed)
    from strata.agents import store
    from strata.agents.rllib_policies import LearntPolicies
    from strata.agents.stock import StockPolicies, is_stock

    if settings.checkpoint and is_stock(source := Path(settings.checkpoint).expanduser()):
        _require_acting_only(settings)
        notify(f"agents from {source}, as RLlib's own loop trained them")
        return StockPolicies(source, control.agents, config.algorithm)
    policies = LearntPolicies(control.agents, settings, config.seed)
    if fresh and settings.checkpoint:
        policies.restore_learners(store.load(Path(settings.checkpoint), control.agents, settings, control.layout))
        notify(f"agents from {settings.checkpoint}")
    if fresh and settings.pretrain_rounds:
        pretrain(config, policies, settings.pretrain_rounds, POPULATIONS, given=given)
        policies.restore_learners(policies.state()["learners"])  # what is left of these rounds is not the run's
        notify(f"agents pre-trained for {settings.pretrain_rounds} rounds of the timing model")
    policies.learning, policies.learn_rounds = settings.mode == "train", settings.learn_rounds
    policies.unpaid = {} if config.clients.mode == "async" else None
    return policies


def _require_acting_only(settings: AgentsConfig) -> None:
    if settings.mode != "freeze" or settings.pretrain_rounds:
        raise AgentCheckpointError(
            f"agents.checkpoint={settings.checkpoint}: these agents were trained by RLlib's own loop, and only act in "
            f"a run. Expected agents.mode=freeze and agents.pretrain_rounds=0, got {settings.mode} and "
            f"{settings.pretrain_rounds}."
        )


def save_policies(policies: Policies | None, control: Control, config: RunConfig, folder: Path) -> None:
    """Save learnt policies; rules have nothing to save."""
    from strata.agents import store
    from strata.agents.rllib_policies import LearntPolicies
    from strata.agents.stock import StockPolicies

    if isinstance(policies, StockPolicies):
        policies.save(folder)
    if isinstance(policies, LearntPolicies):
        learners = policies.state()["learners"]
        store.save(folder, learners, control.agents, config.agents, control.layout, config.algorithm)


def pretrain(
    config: RunConfig,
    policies: Policies,
    rounds: int,
    populations: int,
    watch: Callable[[int, RoundResult], None] = lambda number, result: None,
    given: Given = NOTHING,
) -> None:
    """Let policies learn in rounds that are only timed, on populations of clients drawn for it.

    ``watch`` is called after each round. The run's own clients are not among the populations. A :class:`StrataWarning`
    names agents whose reward was the same number in every round: there was nothing to learn from.
    """
    paid = Paid()
    turns = [timing_turns(config, population + 1, given) for population in range(populations)]
    driver = Driver(StagedRounds({"turns": turns, "rounds": 1}), policies)
    for number in range(1, rounds + 1):
        result = driver.run_round()
        paid.take(result.played.rewards)
        watch(number, result)
    if paid.same:
        _warn_of_constants(config, paid)


class Paid:
    """What agents were paid so far, as far as it tells whether it ever changed."""

    def __init__(self) -> None:
        self._first: dict[AgentId, float] = {}
        self._changed: set[AgentId] = set()
        self._again: set[AgentId] = set()

    def take(self, rewards: Mapping[AgentId, float]) -> None:
        """Take the rewards of a round."""
        for agent, reward in rewards.items():
            if agent not in self._first:
                self._first[agent] = reward
            else:
                self._again.add(agent)
                if reward != self._first[agent]:
                    self._changed.add(agent)

    @property
    def same(self) -> dict[AgentId, float]:
        """The reward of each agent that was paid more than once, and always the same."""
        return {agent: self._first[agent] for agent in self._first if agent in self._again - self._changed}


def _warn_of_constants(config: RunConfig, paid: Paid) -> None:
    same = [f"{agent} ({reward:g})" for agent, reward in paid.same.items()]
    shown = ", ".join(same[:3]) + (f", … ({len(same)} in all)" if len(same) > 3 else "")
    warnings.warn(
        f"{config.algorithm}: the reward never changed of {shown}, so they have learnt nothing. The timing model knows "
        "times and no accuracies: agents that are paid for accuracy learn in a run (`strata run`, agents.mode=train).",
        StrataWarning,
        stacklevel=3,
    )


@dataclass(frozen=True)
class Standing:
    """How a policy fares on held-out populations: means over their rounds, in virtual seconds."""

    straggling_s: float
    round_s: float


def held_out(
    config: RunConfig, makers: Mapping[str, Callable[[Control], Policies]], populations: int, rounds: int
) -> dict[str, Standing]:
    """Time policies, without learning, on populations of clients that no pre-training sees.

    Args:
        config: the run whose clients are drawn anew.
        makers: by name, what makes a policy for a population's control.
        populations: how many, the same for all policies.
        rounds: of each.
    """
    reports: dict[str, list[Report]] = {name: [] for name in makers}
    for population in range(populations):
        turns = timing_turns(config, HELD_OUT + population)
        for name, make in makers.items():
            again = replayed(turns)
            driver = Driver(StagedRounds({"turns": again, "rounds": rounds}), make(again.control))
            reports[name] += [driver.run_round().played.report for _ in range(rounds)]
    return {
        name: Standing(
            float(np.mean([report.straggling_s for report in own])), float(np.mean([report.round_s for report in own]))
        )
        for name, own in reports.items()
    }


def frozen(config: RunConfig, learners: Any, control: Control) -> Policies:
    """Learnt policies that only act, for a control that may have another number of clients per round."""
    from strata.agents.rllib_policies import LearntPolicies

    policies = LearntPolicies(control.agents, config.agents, config.seed)
    policies.restore_learners(learners)
    policies.learning = False
    return policies


def record_of(number: int, virtual_s: float, result: RoundResult) -> RoundRecord:
    """A round of the timing model as a record without its single calls, for the same sinks as a run's."""
    report = result.played.report
    outcome = Outcome(report.round_s, [report.straggling_s], report.calls)
    made = record(number, virtual_s, outcome, {}, wall_s=0.0)
    # Thousands of rounds are logged: their calls one by one would be most of the file.
    return replace(made, calls=CallTable.of([]), metrics=dict(result.metrics), agents_wall_s=result.agents_s)


def compare_rules(
    config: RunConfig, learners: Any, control: Control, populations: int, rounds: int
) -> dict[str, Standing]:
    """How learnt agents and all of the method's rules fare on the same held-out populations, by name."""
    small = control.cohort <= ENUMERABLE
    makers: dict[str, Callable[[Control], Policies]] = {
        "learnt": lambda own: frozen(config, learners, own),
        **{rule: _rule(config, rule) for rule in control.heuristics if small or rule not in control.enumerating},
    }
    return held_out(config, makers, populations, rounds)


def _rule(config: RunConfig, rule: str) -> Callable[[Control], Policies]:
    return lambda control: RulePolicies(rule, control, config.seed)
