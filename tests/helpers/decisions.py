"""Controls without a federation, and federations whose decisions are given."""

import numpy as np

from strata.algorithms.controls.pulls import PullsControl
from strata.algorithms.controls.selection import SelectionControl
from strata.algorithms.fedavg import FedAvg, FedAvgConfig
from strata.algorithms.permfl import PerMFL, PerMFLConfig
from strata.engine.federation import Federation
from strata.engine.method.messages import ClientInfo
from strata.engine.method.situation import CallCost, Situation
from strata.engine.models.spec import ModelSpec
from strata.engine.tree import fingerprint
from tests.helpers.calls import report as report_of

MODEL = ModelSpec("mclr", (2,), 2, ())
CLIENTS = [2, 3, 5]


class Priced:
    """100 FLOPs for the probe; a call has 10 bytes each way, and 100 FLOPs for each unit of work, 5 by default."""

    def call(self, client, assignment):
        return CallCost(10, 10, 100 * assignment.get("epochs", assignment.get("steps", 5)))

    def probe(self, client):
        return CallCost(10, 0, 100)


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
    return report_of(range(n), round_s=round_s, accuracy=0.5, gain=gain)


def pulls(**settings):
    return PullsControl(PerMFL(PerMFLConfig(**settings), MODEL), [], Priced(), 6)


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
    snapshot = federation.rounds.snapshot()
    teams = {team: state.w for team, state in snapshot.teams.items()}
    return fingerprint((federation.world.algorithm.global_model(snapshot.server), teams, snapshot.clients))
