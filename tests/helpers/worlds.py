"""A world of two teams made by hand: what a tier knows of a run, without configuration, files or training."""

import numpy as np

from strata.engine.clock.devices import Profile
from strata.engine.data.dataset import ClientData, Dataset, FederatedData
from strata.engine.rounds.world import TierPlan, World

LABELS = np.array([0, 0, 1, 2, 2, 2, 1, 0], np.int64)
PLAN = TierPlan("sync", 0.0, 1.0)


def rows(*numbers):
    return np.array(numbers, np.int64)


CLIENTS = (
    ClientData(rows(0, 1, 2), rows(6)),
    ClientData(rows(3, 4), rows(5), rows(7)),
    ClientData(rows(), rows()),
)
TEAMS = {4: [0, 2], 7: [1]}
PROFILES = (
    Profile("phone", flops_per_s=100.0, down_bytes_per_s=50.0, up_bytes_per_s=20.0, latency_s=0.5),
    Profile("laptop", flops_per_s=1000.0, availability=0.25),
    Profile("ideal"),
)


def data(clients=CLIENTS, teams=TEAMS, x=None, y=LABELS):
    inputs = np.arange(len(LABELS) * 2, dtype=np.float32).reshape(-1, 2) if x is None else x
    return FederatedData(Dataset("made", inputs, y, 3), clients, teams)


def world(**changes):
    """Three clients; the first two have samples, and the first is slow. ``changes``: other attributes."""
    made = {
        "algorithm": None,
        "data": data(),
        "profiles": PROFILES,
        "team_profile": Profile("team server", down_bytes_per_s=10.0, up_bytes_per_s=25.0),
        "server_profile": Profile("server"),
        "clients_plan": PLAN,
        "teams_plan": PLAN,
        "seed": 3,
    }
    return World(**{**made, **changes})
