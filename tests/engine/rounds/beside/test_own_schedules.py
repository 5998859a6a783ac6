"""Schedules that are objects of Python: whole runs."""

from copy import deepcopy

import numpy as np
import pytest

import strata
from strata.engine.config.given import load_given
from strata.engine.errors import ConfigError, StrataError
from strata.engine.federation import Federation
from tests.helpers.own.schedules import Constant, Patient
from tests.helpers.small import small_overrides


def federation(method, schedule, *words, key="schedule"):
    config, given = load_given(method, small_overrides(method, *words), {key: schedule})
    return Federation(config, given=given)


@pytest.mark.parametrize("method", ["fedavg", "hsgd"])
def test_a_constant_one_is_the_deadline(method):
    with Federation.from_config(method, small_overrides(method, "agents.policy=none")) as made:
        limit_s = float(np.median(made.run_round().calls.total_s))
    own = the_same_as_the_deadline(method, limit_s, "schedule", "clients")
    assert 0 < sum(record.late for record in own) < sum(record.invited for record in own)


@pytest.mark.parametrize("method", ["hsgd", "permfl"])
def test_a_constant_one_for_teams_is_their_deadline(method):
    words = "agents.policy=none", "delays=lognormal"
    with Federation.from_config(method, small_overrides(method, *words)) as made:
        limit_s = 0.999 * made.run_round().round_s  # in which one of the two teams has sent what it has
    own = the_same_as_the_deadline(method, limit_s, "team_schedule", "teams", "delays=lognormal")
    assert own[0].round_s == pytest.approx(limit_s)
    assert own[-1].scores["GM"].loss != own[0].scores["GM"].loss


def the_same_as_the_deadline(method, limit_s, key, tier, *words):
    """A run whose servers of a tier wait so long by a schedule is the one with that deadline; its records."""
    words = "agents.policy=none", "evaluation.every=1", *words
    with federation(method, Constant(limit_s), *words, key=key) as made:
        own = list(made), made.fingerprint()
    words = small_overrides(method, *words, f"{tier}.mode=deadline", f"{tier}.deadline_s={limit_s}")
    with Federation.from_config(method, words) as made:
        other = list(made), made.fingerprint()
    assert own[1] == other[1]
    assert [(r.late, r.round_s) for r in own[0]] == [(r.late, r.round_s) for r in other[0]]
    return own[0]


@pytest.mark.parametrize(
    ("method", "words"), [("fedavg", ()), ("permfl", ()), ("permfl", ("teams.participation=0.5", "seed=2"))]
)
def test_what_it_remembers_is_in_checkpoints(method, words, tmp_path):
    expected = taken_up_again(tmp_path, method, Patient(), "schedule", *words)
    late = [record.late for record in expected]
    assert late[0] >= late[-1] > 0


def test_what_one_for_teams_remembers_is_in_checkpoints(tmp_path):
    expected = taken_up_again(tmp_path, "permfl", Patient(5e-4), "team_schedule", "delays=lognormal")
    waited_s = [record.round_s for record in expected]
    assert waited_s[0] < waited_s[1]  # which tells apart the second exchange and the first


def taken_up_again(tmp_path, method, given, key, *words):
    """A run that goes on from a checkpoint, in place and anew, ends as it did; its records from there on."""
    words, fresh = ("agents.policy=none", *words), deepcopy(given)
    with federation(method, given, *words, key=key) as made:
        made.run_round()
        saved = made.save(tmp_path)
        expected = list(made), made.fingerprint()
        made.restore(saved)
        list(made)
        assert made.fingerprint() == expected[1]
    assert given.exchanges == 0  # each server has a copy of its own
    with federation(method, fresh, *words, key=key) as made:
        made.restore(saved)
        found = list(made), made.fingerprint()
    assert found[1] == expected[1]
    assert [record.round_s for record in found[0]] == [record.round_s for record in expected[0]]
    return expected[0]


def test_a_run_that_is_resumed_is_given_it_again(tmp_path):
    settings = {"quiet": True, "output": str(tmp_path), "tracking": {"wandb": "disabled"}, "runtime": "inprocess"}
    small = {"rounds": 1, "data.limit": 300, "clients.count": 4, "partition": "iid"}
    first = strata.run("fedavg", small, schedule=Patient(), **settings)
    with pytest.raises(StrataError, match=r"Give it as schedule=, also to a run that is resumed"):
        strata.run(resume=first.run_dir, rounds=2, quiet=True)
    again = strata.run(resume=first.run_dir, rounds=2, quiet=True, schedule=Patient())
    assert again.rounds == 2
    assert strata.load_run(first.run_dir, schedule=Patient()).global_model() is not None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"schedule": "sync"}, "schedule='sync': expected an instance of a class of your own"),
        ({"schedule": Patient}, "expected an instance of a class of your own that is a strata.Waiting"),
        ({"clients.mode": "given"}, "Give it as schedule="),
        ({"teams.mode": "given"}, "Give it as team_schedule="),
        ({"team_schedule": 3}, "team_schedule=3: expected an instance of a class of your own"),
    ],
)
def test_what_is_no_schedule_is_refused(settings, says):
    with pytest.raises(ConfigError) as caught:
        Federation.from_config("hsgd", {"runtime": "inprocess", "data.limit": 300, "clients.count": 6}, **settings)
    assert says in str(caught.value)


def test_one_for_teams_where_there_are_none_is_refused():
    with pytest.raises(ConfigError, match="fedavg has no teams"):
        federation("fedavg", Patient(), key="team_schedule")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_teams_that_compute_and_wait_by_it_are_the_same_on_ray():
    words = ("rounds=2", "method.team_rounds=2", "method.steps=2", "agents.policy=none", "delays.team_device=laptop")
    served = ("data.server_fraction=0.1", "data.server_test_fraction=0.1", "evaluation.metrics=[auc]")
    found = []
    for runtime in ("inprocess", "ray"):
        overrides = small_overrides("hsgd", *words, *served, runtime=runtime)
        config, given = load_given("tests.helpers.own.serving:TunedTeams", overrides, {"schedule": Patient()})
        with Federation(config, given=given) as made:
            records = list(made)
            told = [(record.round_s, dict(record.metrics), record.scores) for record in records]
            found.append((told, made.fingerprint()))
    assert found[0] == found[1]
    assert found[0][0][-1][1]["server/flops"] > 0
