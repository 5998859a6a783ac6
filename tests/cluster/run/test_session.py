"""Runs whose decisions agents make: reproducible to the bit, wherever they live and however often they are resumed."""

import numpy as np
import pytest

from strata.cluster.run.session import Session
from strata.engine.errors import AgentCheckpointError, CheckpointError, ConfigError, StrataWarning
from strata.engine.federation import Federation
from strata.engine.rounds.scores import to_plain
from strata.engine.runtime import local_ray
from tests.helpers.small import small

ROUNDS = 9
HAPFL = (
    "model=mlp",
    "model.hidden=[16]",
    "data.limit=400",
    "clients.participation=0.5",
    "method.epochs=2",
    "method.batch_size=16",
    f"rounds={ROUNDS}",
    "delays=loguniform",
    "delays.availability=0.7",
    "delays.dropout=0.1",
    "evaluation.every=4",
    "agents.hidden=8",
    "agents.rounds_per_update=5",
    "agents.epochs=3",
)
POLICIES = ["rllib", "greedy"]


def config_of(policy, *words, runtime="inprocess"):
    return small("hapfl", *HAPFL, f"agents.policy={policy}", *words, runtime=runtime)


def plain_of(record):
    return {**to_plain(record), "calls": list(record.calls.rows())}


def play(session, until=ROUNDS):
    records = []
    while session.round < until:
        records.append(plain_of(session.run_round()))
    return records


def whole(config):
    with Session(config) as session:
        return play(session), session.fingerprint()


@pytest.fixture(scope="module")
def undisturbed():
    """Records and fingerprints by policy."""
    return {policy: whole(config_of(policy)) for policy in POLICIES}


@pytest.mark.parametrize("policy", POLICIES)
def test_same_seed_same_run_to_the_bit(undisturbed, policy):
    records, prints = undisturbed[policy]
    assert whole(config_of(policy)) == (records, prints)
    assert set(prints) == {"models", "clock", "metrics", "agents"}
    other = whole(config_of(policy, "seed=1"))[1]
    assert all(other[key] != prints[key] for key in ("models", "clock", "metrics"))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_that_was_interrupted_is_the_run_that_was_not(undisturbed, policy, tmp_path):
    records, path = [], None
    for until in (3, 7, ROUNDS):  # twice in the midst of the five rounds between two updates
        with Session(config_of(policy), fresh=path is None) as session:
            if path is not None:
                session.restore(path)
            records += play(session, until)
            path = session.save(tmp_path / "checkpoints")
            prints = session.fingerprint()
    assert (records, prints) == undisturbed[policy]


def test_the_rounds_of_the_test_hold_what_could_go_wrong(undisturbed):
    records, _ = undisturbed["rllib"]
    names = [set(record["metrics"]) for record in records]
    assert [number for number, n in enumerate(names, 1) if "agents/size/total_loss" in n] == [5]
    assert all({"agents/size/reward", "agents/intensity/reward"} <= n for n in names)
    assert sum(record["lost"] for record in records) > 0
    assert min(record["invited"] for record in records) < 4
    assert any(call["status"] == "probe" for call in records[0]["calls"])
    greedy = undisturbed["greedy"][0]
    assert greedy[0]["metrics"] != records[0]["metrics"]


@pytest.fixture(scope="module")
def ray_here():
    """A local Ray of two CPUs, which the runs below join."""
    import ray

    local_ray.start(2, 0)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "per_actor"), [("rllib", "auto"), pytest.param("greedy", "8", marks=pytest.mark.exhaustive)]
)
def test_on_ray_it_is_the_same_run_to_the_bit(undisturbed, policy, per_actor, ray_here):
    assert whole(config_of(policy, f"clients_per_actor={per_actor}", runtime="ray")) == undisturbed[policy]


def test_learning_changes_the_agents_and_freezing_does_not(tmp_path):
    with Session(config_of("rllib")) as session:
        session.save_agents(tmp_path / "fresh")
        play(session, 5)
        session.save_agents(tmp_path / "agents")
    frozen = config_of("rllib", "agents.mode=freeze", f"agents.checkpoint={tmp_path / 'agents'}")
    lines = []
    with Session(frozen, lines.append) as session:
        assert f"agents from {tmp_path / 'agents'}" in lines
        records = play(session, 6)
        session.save_agents(tmp_path / "again")
    fresh, saved, again = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("fresh", "agents", "again")
    )
    assert set(saved) == {"state.json", "tensors.safetensors"}
    assert fresh["tensors.safetensors"] != saved["tensors.safetensors"]
    assert again == saved
    assert not any("agents/size/total_loss" in record["metrics"] for record in records)


def test_agents_that_do_not_fit_leave_nothing_behind(tmp_path, monkeypatch):

    closed = []
    monkeypatch.setattr(Federation, "close", lambda self: closed.append(self))
    config = config_of("rllib", f"agents.checkpoint={tmp_path / 'none'}")
    with pytest.raises(AgentCheckpointError, match=r"none: state\.json is missing"):
        Session(config)
    assert len(closed) == 1
    with pytest.raises(ConfigError, match=r"agents.lr.sise: no such agent. Did you mean size\?"):
        Session(config_of("rllib", "agents.lr={sise: 0.1}"))


def test_a_checkpoint_of_other_decisions_is_refused(tmp_path):
    with Session(config_of("greedy")) as session:
        play(session, 1)
        path = session.save(tmp_path)
    with Session(config_of("uniform")) as session, pytest.raises(CheckpointError, match="of another run"):
        session.restore(path)


def test_a_checkpoint_without_agents_is_refused_and_the_session_is_as_it_was(tmp_path):
    config = config_of("greedy")
    with Federation(config) as federation:
        federation.run_round()
        path = federation.save(tmp_path)
    with Session(config) as session:
        play(session, 2)
        before = session.fingerprint()
        with pytest.raises(CheckpointError, match="round-000001: it holds no agents"):
            session.restore(path)
        assert (session.round, session.fingerprint()) == (2, before)
        again = play(session)
    assert again == whole(config)[0][2:]


def test_rounds_to_which_nobody_comes_pass_and_the_agents_rest():
    words = ("delays.availability=0.05", "rounds=12", "delays.server_latency_s=0.5", "agents.rounds_per_update=2")
    with Session(config_of("rllib", *words)) as session:
        records = [session.run_round() for _ in range(12)]
    played = [record for record in records if record.invited]
    assert len(played) >= 2
    assert ["agents/size/total_loss" in record.metrics for record in played] == [n % 2 == 1 for n in range(len(played))]
    empty = [record for record in records if not record.invited]
    assert 0 < len(empty) < 12
    for record in empty:
        assert (record.round_s, record.straggling_s, record.flops, record.train_loss) == (0.5, 0.0, 0, None)
        assert record.metrics == {}
    for record in played:
        assert {"agents/size/reward", "agents/intensity/reward"} <= set(record.metrics)
    assert [record.round for record in records] == list(range(1, 13))
    assert np.all(np.diff([record.virtual_s for record in records]) > 0)


def test_agents_that_are_switched_off_leave_the_method_as_it_is():
    off = config_of("rllib", "method.size_agent=false", "method.intensity_agent=false")
    records, prints = whole(off)
    plain, expected = whole(small("hapfl", *HAPFL, "agents.policy=none"))
    assert records == plain
    assert {key: prints[key] for key in expected} == {key: expected[key] for key in expected}


def test_without_agents_a_session_is_its_federation():

    config = small("hapfl", *HAPFL, "agents.policy=none")
    with Federation(config) as federation:
        records = [plain_of(record) for record in federation]
        expected = federation.fingerprint()
    assert whole(config) == (records, expected)


def test_pretraining_is_reproducible_and_leaves_the_federation_alone(tmp_path):
    words = ("agents.pretrain_rounds=6", "agents.mode=freeze")
    lines = []
    with Session(config_of("rllib", *words), lines.append) as session:
        assert "agents pre-trained for 6 rounds of the timing model" in lines
        assert session.federation.virtual_s == session.round == 0
        first = session.fingerprint()
    with Session(config_of("rllib", *words)) as session:
        assert session.fingerprint() == first
    with Session(config_of("rllib")) as session:
        assert session.fingerprint()["agents"] != first["agents"]


def test_a_federation_alone_says_that_it_has_no_agents():
    words = ["model=mlp", "data.limit=400", "clients.count=8", "runtime=inprocess", "agents.policy=greedy"]
    with pytest.warns(StrataWarning, match=r"agents\.policy=greedy has no effect here.*\.Session has both"):
        federation = Federation.from_config("hapfl", words)
    federation.close()
    Federation.from_config("hapfl", [*words[:-1], "agents.policy=none"]).close()


@pytest.mark.parametrize("policy", POLICIES)
def test_agents_act_when_clients_are_called_where_servers_do_not_wait(policy, tmp_path):
    words = ("clients.mode=async", "clients.concurrency=6", "clients.buffer=2", "clients.staleness=polynomial")
    config = config_of(policy, *words)
    records, prints = whole(config)
    assert max(record["metrics"]["async/in_flight"] for record in records) == 4
    with Session(config) as session:
        begun = play(session, until=4)
        saved = session.save(tmp_path)
    with Session(config) as session:
        session.restore(saved)
        assert (begun + play(session), session.fingerprint()) == (records, prints)
