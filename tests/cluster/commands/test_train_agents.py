"""``strata train-agents``: what it writes, shows and refuses."""

import json

import pytest

from strata.agents.rllib_policies import LearntPolicies
from strata.cluster.cli import main
from strata.cluster.run.learning import compare_rules
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError
from strata.envs.opening import timing_turns

TINY = ("data.limit=600", "clients.count=12", "clients.participation=0.34", "model.width=0.1", "method.epochs=2")
QUIET = ("runtime=inprocess", "tracking.wandb=disabled")


def words(folder, *more):
    return ["train-agents", "hapfl", *TINY, *QUIET, "--populations", "2", "--output", str(folder), *more]


def test_it_learns_saves_and_compares_and_a_run_starts_from_what_it_saved(tmp_path, capsys):
    folder = tmp_path / "agents of mine"
    assert main(words(folder, "--rounds", "10")) == 0
    shown = capsys.readouterr().out
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(1, 11))
    assert all("agents/size/reward" in line["metrics"] for line in lines)
    assert all(line["flops"] > 0 and line["round_s"] > line["straggling_s"] > 0 for line in lines)
    # Two updates of the two agents after 5 and 10 rounds, which report their losses.
    assert [line["round"] for line in lines if "agents/size/total_loss" in line["metrics"]] == [5, 10]
    for policy in ("learnt", "uniform", "random", "greedy", "optimum"):
        assert policy in shown
    assert not list(folder.rglob("*.pkl"))
    run = ["run", "hapfl", *TINY, *QUIET, "rounds=1", f"agents.checkpoint={folder / 'agents'}", "agents.mode=freeze"]
    assert main([*run, f"output={tmp_path / 'runs'}"]) == 0
    assert "agents from" in capsys.readouterr().out


def test_saved_agents_are_compared_without_training(tmp_path, capsys):
    assert main(words(tmp_path / "a", "--rounds", "5")) == 0
    capsys.readouterr()
    again = words(tmp_path / "b", "--rounds", "0", f"agents.checkpoint={tmp_path / 'a' / 'agents'}")
    assert main(again) == 0
    assert "held-out populations" in capsys.readouterr().out
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("clients", "there"), [(12, True), (13, False)])
def test_the_optimum_is_left_out_where_a_round_has_many_clients(clients, there):
    setting = ["data.limit=600", "clients.participation=1", f"clients.count={clients}", "method.epochs=1"]
    config = load_config("hapfl", [*setting, "model.width=0.1", *QUIET])
    control = timing_turns(config).control
    learners = LearntPolicies(control.agents, config.agents, 0).state()["learners"]
    found = compare_rules(config, learners, control, populations=1, rounds=1)
    assert ("optimum" in found) == there
    assert {"learnt", "uniform", "random", "greedy"} <= set(found)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rounds", "-1"], "--rounds -1: expected at least 0"),
        (["--rounds", "0"], "name them with agents.checkpoint"),
        (["agents.policy=greedy"], "only rllib learns"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, capsys, more, message):
    assert main(words(tmp_path / "a", *more)) == 1
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_method_without_decisions_has_no_agents_to_train():
    with pytest.raises(ConfigError, match="pfedme leaves no decisions to agents"):
        load_config("pfedme", ["agents.policy=rllib"])
