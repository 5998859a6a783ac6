"""The tiers as real Ray actors on real (multi-process) clusters."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from strata.engine.build import build_world
from strata.engine.errors import ActorDiedError, ResourceError, TrainingError
from strata.engine.federation import Federation
from strata.engine.method.calls import CallTable
from strata.engine.notify import Step
from strata.engine.rounds.pools import TeamCall, TeamReply
from strata.engine.runtime.asking import Actor
from strata.engine.runtime.lean.leaving_out import lean
from strata.engine.runtime.passing.packing import unpacked
from strata.engine.runtime.remote import RayTeams
from strata.engine.runtime.seats import Share, resources
from strata.engine.tree import fingerprint
from tests.faults.kills import pids_of
from tests.helpers.small import rewind_and_replay, small

METHODS = ["permfl", "fedavg"]


@pytest.fixture(scope="module")
def cluster():
    """Three nodes on this machine, each with two CPUs and one logical GPU; the federations below join it."""
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    with lean():
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False})
        for _ in range(2):
            nodes.add_node(num_cpus=2, num_gpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def free_gpus_become(expected):
    """Whether Ray's books, which lag a little behind, come to show so many GPUs free."""
    for _ in range(100):
        if ray.available_resources().get("GPU", 0.0) == pytest.approx(expected):
            return True
        time.sleep(0.1)
    return False


def run(method, *overrides, runtime="ray"):
    lines = []
    with Federation(small(method, *overrides, runtime=runtime), lines.append) as federation:
        records = list(federation)
        return federation.fingerprint(), records, [line for line in lines if not isinstance(line, Step)]


@pytest.mark.exhaustive  # after a loss: the runs of which something is killed
@pytest.mark.parametrize(("method", "share"), [("standalone", 0.5), ("permfl", 0.3)])
def test_a_federation_rewound_in_place_goes_on_as_one_that_was_not_disturbed(cluster, tmp_path, method, share):
    few = (f"clients.participation={share}", "rounds=3", "clients_per_actor=2", "clients.num_cpus=0.5")
    with Federation(small(method, *few, runtime="ray")) as federation:
        rewind_and_replay(federation, tmp_path)


REPEATED = [pytest.param(method, marks=pytest.mark.exhaustive) for method in METHODS]


@pytest.mark.slow
@pytest.mark.parametrize("method", [*REPEATED, "tests.helpers.regrouping"])
def test_placement_never_changes_a_result(cluster, method):
    noisy = ["clients.count=6", "delays.dropout=0.2", "delays.availability=0.8", "clients.participation=0.75"]
    noisy += ["training.batch_clients=8", "model=cnn", "model.width=0.25"]  # one by one: the golden runs
    expected, records, _ = run(method, *noisy, runtime="inprocess")
    assert sum(record.lost for record in records) > 0
    packed, _, lines = run(method, *noisy, "clients_per_actor=6")
    assert lines[0].startswith("1 client actor with 6 clients each")
    spread, _, lines = run(method, *noisy, "clients_per_actor=1", "clients.num_cpus=0.5", "ray.placement=spread")
    assert lines[0].startswith("6 client actors with 1 client each")
    assert "on 3 nodes" in lines[0]
    assert expected == packed == spread
    other, _, _ = run(method, *noisy, "seed=1", runtime="inprocess")
    assert other["models"] != expected["models"]


def test_placement_never_changes_a_result_of_the_dual_form(cluster):
    words = ["clients.count=6", "clients.participation=0.75", "delays.dropout=0.2", "method.local_steps=8"]
    dual = [*words, "training.linear=dual", "training.batch_clients=8"]
    expected, records, _ = run("permfl", *dual, runtime="inprocess")
    assert expected == run("permfl", *dual, "clients_per_actor=3")[0]
    alone, _, lines = run("permfl", *dual, "clients_per_actor=1", "clients.num_cpus=0.5", "ray.placement=spread")
    assert lines[0].startswith("6 client actors with 1 client each")
    assert alone == expected
    primal, plain, _ = run("permfl", *words, "training.batch_clients=8", runtime="inprocess")
    assert primal["models"] != expected["models"]
    assert [record.train_loss for record in records] == pytest.approx([record.train_loss for record in plain], rel=1e-5)


@pytest.mark.slow
@pytest.mark.exhaustive  # beside: the golden runs; apart: those of which something is killed
@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("permfl", ("delays.dropout=0.2", "teams.participation=0.5")),
        ("hsgd", ("delays.availability=0.8", "clients.participation=0.5")),
    ],
)
def test_team_servers_beside_their_clients_or_apart_change_no_result(cluster, tmp_path, method, words):
    words = (*words, "clients.count=12", "teams.count=4", "training.batch_clients=8", "clients.num_cpus=0.5")
    expected, records, _ = run(method, *words, runtime="inprocess")
    placed = {
        ("clients_per_actor=5",): "3 client actors with 4 clients each, 2 team servers beside their clients, 2 team",
        ("clients_per_actor=6", "teams.placement=own"): "2 client actors with 6 clients each, 4 team servers, 1",
    }
    for place, said in placed.items():
        found, seen, lines = run(method, *words, *place, "ray.placement=spread")
        assert lines[0].startswith(said), lines[0]
        assert (found, [record.calls for record in seen]) == (expected, [record.calls for record in records])
    with Federation(small(method, *words, "clients_per_actor=6", runtime="ray")) as federation:
        rewind_and_replay(federation, tmp_path)


IN_FLIGHT = (
    "clients.mode=async",
    "clients.buffer=2",
    "clients.staleness=polynomial",
    "clients.max_staleness=4",
    "delays=pareto",
    "rounds=6",
    "evaluation.every=2",
    "clients.num_cpus=0.5",
    "agents.policy=none",
)


TEAMS_IN_FLIGHT = ("teams.mode=async", "teams.count=4", "teams.concurrency=3", "teams.staleness=polynomial")
REMEMBERING = "tests.helpers.regrouping:Remembering"
BOTH_IN_FLIGHT = (*TEAMS_IN_FLIGHT, "clients.mode=async", "clients.buffer=1")
CROWDED = ("delays.team_links=shared", "delays.team_down_bytes_per_s=1e5", "clients.buffer=1")


@pytest.mark.slow
@pytest.mark.exhaustive  # two actors: the runs of which something is killed
@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("fedavg", ("clients.concurrency=5",)),
        ("lg_fedavg", ("clients.concurrency=5", "clients.update=change")),
        ("permfl", ("clients.concurrency=3",)),
        ("tests.helpers.regrouping", ("clients.concurrency=3",)),
        ("permfl", ("clients.mode=sync", *TEAMS_IN_FLIGHT)),
        ("permfl", (*TEAMS_IN_FLIGHT, *CROWDED)),
        (REMEMBERING, (*BOTH_IN_FLIGHT, "teams.buffer=2")),
    ],
)
def test_placement_changes_no_result_where_servers_do_not_wait(cluster, method, words):
    words = (*IN_FLIGHT, *words, "delays.dropout=0.1", "delays.availability=0.8")
    expected, records, _ = run(method, *words, runtime="inprocess")
    told = [value for record in records for name, value in record.metrics.items() if name.endswith("in_flight")]
    assert sum(told) > 6
    for clients in (8, 4):  # one actor, two; four below
        assert run(method, *words, f"clients_per_actor={clients}")[0] == expected
    found, _, lines = run(method, *words, "clients_per_actor=2", "ray.placement=spread")
    assert "on 3 nodes" in lines[0]
    assert found == expected


TRACED = ("delays.availability_trace=ON", "delays.availability_period_s=60")
SLOW_LINKS = ("delays.server_down_bytes_per_s=1e5", "delays.team_down_bytes_per_s=1e5")


@pytest.mark.parametrize(
    ("method", "plain", "own"),
    [
        pytest.param("fedavg", ("clients.mode=async", "clients.concurrency=4"), TRACED, marks=pytest.mark.exhaustive),
        pytest.param("permfl", SLOW_LINKS, ("delays.team_links=shared",), marks=pytest.mark.exhaustive),
        pytest.param("fedavg", SLOW_LINKS, ("delays.server_links=shared",), marks=pytest.mark.exhaustive),
        ("permfl", (*SLOW_LINKS, *BOTH_IN_FLIGHT), (*TRACED, "delays.team_links=shared")),
        ("permfl", (*SLOW_LINKS, "teams.mode=async"), ("delays.server_links=shared",)),
        pytest.param("permfl", SLOW_LINKS, (*TRACED, "delays.server_links=shared"), marks=pytest.mark.exhaustive),
        pytest.param("permfl", (), TRACED, marks=pytest.mark.exhaustive),
        pytest.param(
            "lg_fedavg",
            (*SLOW_LINKS, "clients.mode=async"),
            (*TRACED, "delays.server_links=shared"),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_when_clients_are_there_and_what_links_share_are_the_same_on_ray(cluster, tmp_path, method, plain, own):
    on = [f"{client},{3 * client},{3 * client + 25}" for client in range(8)]
    (tmp_path / "on.csv").write_text("\n".join(["client,on_s,off_s", *on]) + "\n")
    own = [word.replace("ON", str(tmp_path / "on.csv")) for word in own]
    plain = ("delays=pareto", "rounds=3", "delays.latency_s=2", "agents.policy=none", "delays.availability=1", *plain)
    expected, there, _ = run(method, *plain, *own, runtime="inprocess")
    without, _, _ = run(method, *plain, runtime="inprocess")
    found, seen, _ = run(method, *plain, *own, "clients_per_actor=2", "clients.num_cpus=0.5", "ray.placement=spread")
    assert found == expected
    assert [record.calls for record in seen] == [record.calls for record in there]
    assert without["clock"] != expected["clock"]


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("lg_fedavg", ()),
        pytest.param("permfl", (), marks=pytest.mark.exhaustive),
        pytest.param(REMEMBERING, (*BOTH_IN_FLIGHT, *CROWDED, "teams.buffer=2"), marks=pytest.mark.exhaustive),
    ],
)
def test_what_is_in_flight_is_called_again_when_a_run_is_rewound_or_resumed(cluster, tmp_path, method, own):
    words = (*IN_FLIGHT, "clients.concurrency=3", "clients_per_actor=2", *own)
    config = small(method, *words, runtime="ray")
    with Federation(config) as federation:
        federation.run_round()
        federation.run_round()
        saved = federation.save(tmp_path)
        list(federation)
        expected = federation.fingerprint()
        federation.restore(saved)  # over calls that are still being made
        list(federation)
        assert federation.fingerprint() == expected
    with Federation(small(method, *words, runtime="inprocess")) as federation:
        federation.restore(saved)
        list(federation)
        assert federation.fingerprint() == expected


def test_data_and_states_that_lie_on_the_disk_have_the_same_bits_on_three_nodes(cluster, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.normal(size=(240, 6)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 3, 240))
    np.save(tmp_path / "client.npy", np.repeat(np.arange(8), 30))
    words = (f"data={tmp_path}", "data.limit=0", "partition=natural", "clients.participation=0.5", "model=mlp")
    expected, _, _ = run("lg_fedavg", *words, runtime="inprocess")
    spread = ("clients_per_actor=2", "clients.num_cpus=0.5", "ray.placement=spread", "state.cache_mib=0.0001")
    found, _, lines = run("lg_fedavg", *words, *spread)
    assert "on 3 nodes" in lines[0]
    assert found == expected


def test_logical_gpus_schedule_fractions(cluster):
    config = small("fedavg", "rounds=1", "clients.num_gpus=0.375", "clients.num_cpus=0.1", runtime="ray")
    with Federation(config) as federation:
        # Two actors of 0.375 fit each of the three GPUs, not more; four actors hold the eight clients in pairs.
        assert free_gpus_become(3 - 4 * 0.375)
        (record,) = federation
    assert record.completed == 8


def test_what_does_not_fit_fails_before_any_actor_starts(cluster):
    config = small("fedavg", "clients.num_gpus=0.5", "clients_per_actor=1", "clients.num_cpus=0.1", runtime="ray")
    with pytest.raises(ResourceError, match=r"8 client actors of 0.1 CPU and 0.5 GPU each = .* and 4 GPU"):
        Federation(config)
    assert free_gpus_become(3)


def test_resources_follow_the_device_class():
    config = small(
        "fedavg",
        "delays.classes={laptop: 1, phone_mid: 1}",
        "clients.classes.laptop.num_cpus=2",
        "clients.num_cpus=0.5",
    )
    world = build_world(config)
    shares = resources(config.clients, world)
    for client, profile in enumerate(world.profiles):
        assert shares[client] == Share(2.0 if profile.device == "laptop" else 0.5, 0.0)
    assert {profile.device for profile in world.profiles} == {"laptop", "phone_mid"}


def test_actors_that_cannot_be_scheduled_fail_within_their_time(cluster):
    @ray.remote(num_cpus=2)
    class Greedy:
        def ready(self):
            return True

    others = [Greedy.options(scheduling_strategy="SPREAD").remote() for _ in range(3)]
    ray.get([other.ready.remote() for other in others])
    config = small("fedavg", "ray.start_timeout_s=2", runtime="ray")
    with pytest.raises(ResourceError, match=r"actors did not start within 2 s: the cluster is busy"):
        Federation(config)
    for other in others:
        ray.kill(other)


def test_a_start_that_is_refused_keeps_its_type_and_its_reason(cluster):
    config = small("fedavg", "training.device=cuda", runtime="ray")
    with pytest.raises(ResourceError, match=r"training\.device=cuda: torch finds no CUDA device here"):
        Federation(config)


def test_a_training_error_arrives_as_it_was_raised(cluster):
    config = small("permfl", "clients.count=4", "method.alpha=1e38", "method.lambda_device=0", runtime="ray")
    with (
        Federation(config) as federation,
        pytest.raises(TrainingError, match=r"client \d \(team \d\), round \d, team round \d: "),
    ):
        list(federation)


@pytest.mark.parametrize("method", ["fedavg", pytest.param("permfl", marks=pytest.mark.exhaustive)])
def test_a_client_actor_that_dies_ends_the_run_with_its_name(cluster, method):
    config = small(method, "clients.count=4", "clients_per_actor=1", "clients.num_cpus=0.5", "rounds=50", runtime="ray")
    with Federation(config) as federation:
        federation.run_round()
        team = federation.world.team_of[3]
        pids = pids_of(federation.runtime.handles)
        os.kill(pids[3], signal.SIGKILL)
        # FedAvg keeps nothing, so any actor may make any client's call.
        who = rf"client 3 \(team {team}\), round 2, team round 1" if method == "permfl" else r"client \d, round 2"
        with pytest.raises(ActorDiedError, match=f"{who}: the actor's process ended"):
            federation.run_round()
        federation.restart()
        again = pids_of(federation.runtime.handles)
        assert set(pids) - set(again) == {pids[3]}
        federation.run_round()
        federation.run_round()
        found = federation.fingerprint()
    with Federation(replace(config, runtime="inprocess")) as federation:
        federation.run_round()
        federation.run_round()
        assert federation.fingerprint() == found


def test_each_team_is_sent_its_own_message_and_a_common_one_travels_once(cluster, monkeypatch):
    @ray.remote(num_cpus=0.1)
    class Echo:
        def ask(self, term, greeting, verb, arguments, *downs):
            (calls,) = unpacked(arguments, [unpacked(down) for down in downs])
            return [TeamReply(call.team, call.down, 1, 0.0, [], CallTable.of([]), 0, 0) for call in calls]

    put = []
    plain = ray.put
    monkeypatch.setattr(ray, "put", lambda value: put.append(value) or plain(value))
    echoes = [Echo.remote() for _ in range(2)]
    common = {"x": torch.ones(100_000)}  # too large to go with the call
    own = {"x": torch.arange(3.0)}
    calls = [TeamCall(team, 1, [team], down) for team, down in enumerate((common, own, common))]
    teams = RayTeams([Actor(echo, 0) for echo in echoes], {0: 0, 1: 0, 2: 1})
    replies = sorted(teams.results(teams.submit(calls)), key=lambda reply: reply.team)
    assert [reply.team for reply in replies] == [0, 1, 2]
    assert [fingerprint(reply.up) for reply in replies] == [fingerprint(down) for down in (common, own, common)]
    assert len(put) == 1
    for echo in echoes:
        ray.kill(echo)
