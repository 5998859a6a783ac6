"""Where a run's wall seconds go: somebody sleeps in one place, and the seconds are found there and nowhere else."""

import json
import re
import time

import pytest
from rich.console import Console

from strata.agents.policies import RulePolicies
from strata.algorithms.fedavg import FedAvg
from strata.algorithms.permfl import PerMFL
from strata.cluster.cli import main
from strata.cluster.run.profiling import PROFILE, Profile
from strata.cluster.run.recovery import Survived
from strata.cluster.sinks.by_client import read_calls
from strata.cluster.sinks.jsonl import JsonlSink
from strata.engine.federation import Federation
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.server import GlobalServer
from strata.engine.rounds.team import LocalTeams
from strata.engine.stopwatch import AGENTS, EVALUATION, HANDOVER, PARTS, SERVER, TRACKING, TRAINING
from tests.helpers.records import record
from tests.helpers.small import small_overrides

ROUNDS = 2
NAP_S = 0.2  # of a sleeper, per call


def profile_of(folder, method, *words, runtime="inprocess", model="model=mclr"):
    """What ``--profile`` leaves, its parts checked: none is negative, and all of them are the round."""
    own = [f"rounds={ROUNDS}", *([model] if model else []), f"output={folder}", *words]
    assert main(["run", method, *small_overrides(method, *own, runtime=runtime), "--profile"]) == 0
    (path,) = folder.glob(f"*/{PROFILE}")
    found = json.loads(path.read_text())
    assert len(found["by_round"]) == ROUNDS
    for one in found["by_round"]:
        assert list(one["parts"]) == list(PARTS)
        assert min(one["parts"].values()) >= 0
        assert sum(one["parts"].values()) == pytest.approx(one["wall_s"], abs=1e-9)
        assert one["parts"][TRAINING] > 0
    return found


def seconds_of(found):
    return {part: one["total_s"] for part, one in found["parts"].items()}


SLEEPERS = [
    (TRAINING, ClientHost, "_close", "fedavg"),
    (TRAINING, ClientHost, "_close", "permfl"),
    (HANDOVER, ClientHost, "submit", "fedavg"),
    (HANDOVER, LocalTeams, "submit", "permfl"),
    (SERVER, FedAvg, "global_step", "fedavg"),
    (SERVER, PerMFL, "global_step", "permfl"),
    (SERVER, PerMFL, "team_step", "permfl"),
    (AGENTS, RulePolicies, "act", "fedavg"),
    (EVALUATION, GlobalServer, "evaluate", "fedavg"),
    (TRACKING, JsonlSink, "round", "fedavg"),
    (TRACKING, Federation, "save", "fedavg"),
]


@pytest.mark.parametrize(("part", "owner", "name", "method"), SLEEPERS)
def test_seconds_are_found_in_the_part_where_they_were_spent(tmp_path, monkeypatch, part, owner, name, method):
    awake, slept = getattr(owner, name), []

    def asleep(*arguments, **named):
        slept.append(NAP_S)
        time.sleep(NAP_S)
        return awake(*arguments, **named)

    monkeypatch.setattr(owner, name, asleep)
    agents = ["agents.policy=greedy"] * (part == AGENTS)
    found = profile_of(tmp_path, method, "checkpoint.every=1", *agents)
    assert len(slept) >= ROUNDS
    assert seconds_of(found)[part] >= sum(slept)


def test_probes_are_part_of_the_round_that_they_precede(tmp_path, monkeypatch):
    """Clients that sleep in their probes have trained, although the round itself has not begun."""
    awake, slept = ClientHost._close, []

    def asleep(self, call, *arguments):
        if call.probe:
            slept.append(NAP_S)
            time.sleep(NAP_S)
        return awake(self, call, *arguments)

    monkeypatch.setattr(ClientHost, "_close", asleep)
    found = profile_of(tmp_path, "hapfl", "agents.policy=greedy", model=None)
    assert slept
    assert found["by_round"][0]["parts"][TRAINING] >= sum(slept)


def test_wall_seconds_leave_no_trace_in_the_results(tmp_path):
    """A run with a profile writes the bytes of one without, and one that is resumed has the profile of its rounds."""
    profile_of(tmp_path / "with", "fedavg", "checkpoint.every=1")
    words = small_overrides("fedavg", f"rounds={ROUNDS}", "model=mclr", "checkpoint.every=1")
    assert main(["run", "fedavg", *words, f"output={tmp_path}/without"]) == 0
    run_dirs = [next((tmp_path / name).iterdir()) for name in ("with", "without")]
    assert [(run_dir / PROFILE).exists() for run_dir in run_dirs] == [True, False]
    for name in ("metrics.jsonl", "checkpoints/round-000002/state.json"):
        assert (run_dirs[0] / name).read_bytes() == (run_dirs[1] / name).read_bytes()
    assert main(["run", f"resume={run_dirs[1]}", f"rounds={ROUNDS + 1}", "--profile"]) == 0
    found = json.loads((run_dirs[1] / PROFILE).read_text())
    assert [one["round"] for one in found["by_round"]] == [ROUNDS + 1]


def test_totals_means_and_shares_are_those_of_the_rounds(tmp_path):
    profile = Profile({"loading data": 1.5})
    profile.add(record(1, seconds={TRAINING: 3.0, HANDOVER: 1.0, SERVER: 0.5, EVALUATION: 0.0, TRACKING: 0.25}), 0.25)
    profile.add(record(2, seconds={TRAINING: 1.0, HANDOVER: 0.0, SERVER: 0.5, EVALUATION: 1.0, TRACKING: 0.25}), 0.25)
    assert profile.totals() == {TRAINING: 4, HANDOVER: 1, SERVER: 1, AGENTS: 0, EVALUATION: 1, TRACKING: 1}
    plain = profile.plain()
    assert (plain["rounds"], plain["wall_s"], plain["start_s"]) == (2, 8.0, {"loading data": 1.5})
    assert plain["parts"][TRAINING] == {"total_s": 4.0, "per_round_s": 2.0, "share": 0.5}
    assert plain["by_round"][0]["parts"][TRACKING] == 0.5  # 0.25 of the record, and 0.25 that it does not have
    console = Console(width=80, record=True)
    console.print(profile.table())
    shown = console.export_text()
    assert "wall time of 2 rounds: 8.0 s" in shown
    assert re.search(r"training\W+2\.0 s\W+50\.0%", shown)
    assert profile.start() == "start: loading data 1.5 s"
    assert profile.recoveries() == ""
    lost = Profile({}, survived=[Survived(3, "an actor died", 2, 4.5), Survived(7, "a node is gone", 5, 1.5)])
    assert lost.recoveries() == "starting again: 2 times, 6.0 s"
    assert lost.plain()["recoveries"][0] == {"round": 3, "back_to": 2, "wall_s": 4.5}


def test_a_run_that_was_over_has_an_empty_profile():
    profile = Profile({})
    assert profile.plain()["parts"][TRAINING] == {"total_s": 0.0, "per_round_s": 0.0, "share": 0.0}
    assert profile.table().row_count == len(PARTS) + 1


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["permfl", "fedavg"])
def test_actors_report_their_own_seconds(tmp_path, method):
    """Clients that sleep while the clock runs sleep within their training; two actors of four sleep side by side."""
    words = ["delays.mode=sleep", "delays.sleep_scale=1", "clients_per_actor=4"]
    found = profile_of(tmp_path, method, *words, runtime="ray")
    parts = seconds_of(found)
    (run_dir,) = tmp_path.glob("*/")
    calls = read_calls(run_dir).to_pandas()
    slept_s = calls[["latency_s", "download_s", "compute_s", "upload_s"]].to_numpy().sum()
    assert parts[TRAINING] >= slept_s / 2 > 0  # the busiest of two actors has at least half of it
    assert parts[HANDOVER] > 0
    assert parts[SERVER] > 0
    assert {"loading data", "starting Ray", "starting actors"} <= set(found["start_s"])
