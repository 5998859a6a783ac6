"""Decisions without a federation: bandits whose best arms are known, played through the real environment.

# k clients, F features
"""

from dataclasses import replace

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from strata.agents.driver import Driver
from strata.agents.rllib_policies import LearntPolicies
from strata.engine.config.agents import AgentsConfig
from strata.engine.method.control import AgentSpec, Control
from strata.engine.method.features import pad_rows
from strata.engine.method.situation import Decisions, Situation
from strata.engine.seeding import generator
from strata.envs.multi_agent import FederatedRoundsEnv
from strata.envs.turns import Turns
from tests.helpers.calls import report

ARMS = 3


class ToyRounds:
    """Rounds in which nothing happens; ``cohorts`` names the clients of each, all k where it says nothing."""

    def __init__(self, k, cohorts=()):
        self.round, self._k, self._cohorts = 0, k, list(cohorts)

    def invite(self):
        return self._cohorts[self.round] if self.round < len(self._cohorts) else list(range(self._k))

    def probe(self, clients):
        raise AssertionError("nobody asked for probes")

    def play(self, decisions):
        self.round += 1
        return report([], round_s=0.0)


class Toy(Control):
    """One agent per name, each in a stage of its own; which arm of a client pays is told by its feature."""

    def __init__(self, k, agents):
        self._specs = agents
        super().__init__(None, [], None, k)

    def make_agents(self):
        return self._specs

    def kinds(self, situation):
        """The arm that pays for each client, drawn anew in every round ``(k,)``."""
        drawn = generator(0, "kinds", situation.round).integers(0, ARMS, self.cohort)
        return drawn[: len(situation.clients)]

    def stages(self, situation):
        return [[agent] for agent in self.agents] if situation.clients else []

    def observe(self, agent, situation, chosen):
        return pad_rows([*np.eye(ARMS)[self.kinds(situation)].T], self.cohort)

    def decide(self, situation, chosen):
        return Decisions({client: {} for client in situation.clients})

    def rewards(self, situation, chosen, report):
        return {agent: self.pay(situation, action) for agent, action in chosen.items()}

    def pay(self, situation, action):
        kinds = self.kinds(situation)
        if np.asarray(action).dtype.kind == "f":  # the best number is the kind's own
            return -float(np.abs(action[: len(kinds)] - (kinds - 1.0)).mean())
        return float((action[: len(kinds)] == kinds).mean())


def rows(k, features=1 + ARMS):
    return Box(-8.0, 8.0, (k, features), np.float32)


def arms(k=4, learner="ppo", lr=0.02):
    return AgentSpec(rows(k), MultiDiscrete([ARMS] * k), learner, lr)


def numbers(k=4, lr=0.02):
    return AgentSpec(rows(k), Box(-3.0, 3.0, (k,), np.float32), "ppo", lr)


def settings(**changes):
    return replace(AgentsConfig(policy="rllib", hidden=16), **changes)


def turns(agents, k=4, cohorts=()):
    return Turns(ToyRounds(k, cohorts), Toy(k, agents), k)


def driver(agents, policies, k=4, cohorts=()):
    return Driver(FederatedRoundsEnv({"turns": turns(agents, k, cohorts), "rounds": 1}), policies)


def mean_pay(agents, policies, k=4, rounds=20):
    """What frozen policies earn per agent, in rounds of their own."""
    policies.learning = False
    loop = driver(agents, policies, k)
    played = [loop.run_round().played.rewards for _ in range(rounds)]
    policies.learning = True
    return {agent: float(np.mean([rewards[agent] for rewards in played])) for agent in agents}


def learn(agents, rounds, k=4, **changes):
    """Policies after some rounds of learning."""
    policies = LearntPolicies(agents, settings(**changes), seed=0)
    loop = driver(agents, policies, k)
    for _ in range(rounds):
        loop.run_round()
    return policies


def situation(round=1, clients=(0, 1, 2, 3)):
    unknown = np.full(len(clients), np.nan)
    return Situation(round, clients, *[unknown] * 4)


BLIND = Box(0.0, 1.0, (1,), np.float32)
BEST = (2, 0)  # of the two slots of a virtual agent
BASELINE = 0.6  # subtracted from the share of slots that are right: only the best action is worth more than nothing


class VirtualToy(Toy):
    """An agent per client, all side by side: paid for each slot that is best, less a baseline."""

    def stages(self, situation):
        return [[f"client {client}" for client in situation.clients]] if situation.clients else []

    def observe(self, agent, situation, chosen):
        return np.zeros(1, np.float32)

    def pay(self, situation, action):
        return float((np.array(action) == BEST).mean()) - BASELINE


def virtual(clients=3, lr=0.5):
    spec = AgentSpec(BLIND, MultiDiscrete([3, 2]), "reinforce", lr)
    return {f"client {client}": spec for client in range(clients)}


def virtual_driver(policies, agents, cohorts=()):
    k = len(agents)
    turns = Turns(ToyRounds(k, cohorts), VirtualToy(k, agents), k)
    return Driver(FederatedRoundsEnv({"turns": turns, "rounds": 1}), policies)
