"""What the tiers know of clients and teams, and what makes two runs' data one."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from strata.engine.clock.devices import Profile
from strata.engine.data.dataset import ClientData
from strata.engine.method.calls import NO_TEAM
from tests.helpers.worlds import CLIENTS, LABELS, PROFILES, TEAMS, data, rows, world


def test_what_servers_know_of_a_client_is_counted_from_its_rows():
    first, second, third = world().infos
    assert (first.id, first.team, first.train_samples, first.test_samples) == (0, 4, 3, 1)
    assert (second.id, second.team, second.train_samples, second.test_samples) == (1, 7, 2, 1)
    # Rows 0, 1, 2 are of classes 0, 0, 1; rows 3 and 4 of class 2. The others are theirs alone.
    assert [info.label_counts.tolist() for info in (first, second, third)] == [[2, 1, 0], [0, 0, 2], [0, 0, 0]]
    assert [(info.device, info.flops_per_s) for info in (first, second)] == [("phone", 100.0), ("laptop", 1000.0)]


def test_a_client_is_known_in_the_team_that_it_is_in_now():
    made = world()
    assert made.info_in(0, 7) == replace(made.infos[0], team=7)
    assert made.info_in(0, 4) is made.infos[0]
    assert made.info_in(0, NO_TEAM) is made.infos[0]


def test_a_team_holds_what_its_members_hold():
    info = world().team_info(9, [2, 1, 0])
    assert (info.id, info.members, info.train_samples) == (9, (2, 1, 0), 0 + 2 + 3)


def test_without_teams_nobody_is_in_one():
    made = world(data=data(teams={}))
    assert made.team_of.tolist() == [NO_TEAM] * 3
    assert [info.team for info in made.infos] == [None] * 3


def test_availability_and_teams_are_by_client():
    assert world().availability.tolist() == [1.0, 0.25, 1.0]
    assert world().team_of.tolist() == [4, 7, 4]


X = np.arange(16, dtype=np.float32).reshape(8, 2)
CHANGED = {
    "an input": {"data": data(x=X + np.eye(8, 2, dtype=np.float32))},
    "their type": {"data": data(x=X.view(np.int32))},
    "their shape": {"data": data(x=X.reshape(8, 2, 1))},
    "a label": {"data": data(y=(LABELS + 1) % 3)},
    "a row moved to the test": {"data": data([ClientData(rows(0, 1), rows(2, 6)), *CLIENTS[1:]])},
    "a row moved to the validation": {"data": data([ClientData(rows(0, 1, 2), rows(), rows(6)), *CLIENTS[1:]])},
    "another row held out": {"data": data([CLIENTS[0], replace(CLIENTS[1], validation=rows(0)), CLIENTS[2]])},
    "rows in another order": {"data": data([ClientData(rows(1, 0, 2), rows(6)), *CLIENTS[1:]])},
    "a row moved to another client": {
        "data": data([ClientData(rows(0, 1), rows(6)), replace(CLIENTS[1], train=rows(2, 3, 4)), CLIENTS[2]])
    },
    "a team's members": {"data": data(teams={4: [0], 7: [1, 2]})},
    "no teams": {"data": data(teams={})},
    "a client's speed": {"profiles": [replace(PROFILES[0], flops_per_s=101.0), *PROFILES[1:]]},
    "the teams' link": {"team_profile": Profile("team server")},
    "the server's latency": {"server_profile": Profile("server", latency_s=1.0)},
}


@pytest.mark.parametrize("what", CHANGED)
def test_the_fingerprint_sees_whatever_enters_a_result(what):
    assert world(**CHANGED[what]).fingerprint != world().fingerprint


def test_the_fingerprint_is_of_the_data_and_not_of_how_they_are_held():
    plain = world().fingerprint
    assert world(data=data(x=X.copy())).fingerprint == plain
    held = {team: np.array(members) for team, members in reversed(TEAMS.items())}
    assert world(data=data(teams=held)).fingerprint == plain
    assert world(seed=4, evaluation_batch=1, sleep_scale=1.0).fingerprint == plain
    assert pickle.loads(pickle.dumps(world())).fingerprint == plain
