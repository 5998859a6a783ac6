"""What servers compute themselves: on which rows, what it costs, and that a run is the same however often it begins."""

import numpy as np
import pytest

from strata.engine.build import build_world
from strata.engine.clock.devices import device_classes
from strata.engine.data.config import DataConfig
from strata.engine.data.memory import from_arrays
from strata.engine.data.partition.holdout import server_rows
from strata.engine.errors import ConfigError, DataError
from strata.engine.federation import Federation
from strata.engine.rounds.timed import TimedRounds
from tests.helpers.small import BUFFERED, HALF, resume_in_flight, small

FLAT, TIERED = "tests.helpers.own.serving:Tuned", "tests.helpers.own.serving:TunedTeams"
SERVED = ("data.server_fraction=0.1", "method.batch_size=16", "agents.policy=none")
TEAMS = ("method.team_rounds=3", "method.steps=2", "agents.policy=none", *SERVED[:2])


def test_rows_of_servers_are_balanced_and_nobody_elses():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    data = from_arrays(np.arange(100.0)[:, None], y, test=np.arange(100) % 4 == 3)
    config = DataConfig(server_fraction=0.2, server_test_fraction=0.24, split="published")
    rows = server_rows(data, config, 5)
    assert np.bincount(y[rows.train]).tolist() == [5, 5, 5]
    assert np.bincount(y[rows.test]).tolist() == [2, 2, 2]
    assert data.natural_test[rows.test].all()
    assert not data.natural_test[rows.train].any()
    with pytest.raises(DataError, match=r"0\.001 of 75 rows is none to train the server with"):
        server_rows(data, DataConfig(server_fraction=0.001, split="published"), 5)


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "labels"])
def test_clients_are_dealt_the_rest(partition):
    world = build_world(
        small("fedavg", f"partition={partition}", "data.server_fraction=0.1", "partition.min_samples=2")
    )
    dealt = np.concatenate([np.concatenate([one.train, one.test]) for one in world.data.clients])
    held = sorted([*dealt, *world.data.server.train])
    assert held == (sorted(set(held)) if partition == "labels" else list(range(600)))  # 8 clients hold 9 classes
    assert np.bincount(world.data.dataset.y[world.data.server.train]).tolist() == [6] * 10
    assert build_world(small("fedavg")).data.server.train.size == 0


def test_it_takes_the_seconds_of_the_servers_device():
    kind = device_classes("")["laptop"]
    with (
        Federation(small(FLAT, *SERVED)) as free,
        Federation(small(FLAT, *SERVED, "delays.server_device=laptop")) as paid,
    ):
        plain, charged = free.run_round(), paid.run_round()
        assert free.rounds.snapshot().server.w.keys() == paid.rounds.snapshot().server.w.keys()
    flops = charged.metrics["server/flops"]
    # Two steps of eight images: forward, and the gradient of the weights.
    assert flops == plain.metrics["server/flops"] == 2 * 2 * 2 * 8 * 784 * 10
    assert charged.metrics["server/compute_s"] == flops / kind.flops_per_s
    assert charged.round_s == plain.round_s + flops / kind.flops_per_s
    assert charged.flops == plain.flops


def test_team_servers_compute_in_each_of_their_rounds():
    found = []
    for words in ((), ("delays.team_device=laptop",)):
        with Federation(small(TIERED, *TEAMS, *words)) as made:
            found.append(made.run_round())
    steps = 2 * 3  # two teams, three rounds each
    assert found[1].metrics["server/flops"] == steps * 2 * 2 * 8 * 784 * 10
    each = 2 * 2 * 8 * 784 * 10 / device_classes("")["laptop"].flops_per_s
    assert found[1].round_s - found[0].round_s == pytest.approx(3 * each, rel=1e-6)


def test_a_run_that_is_resumed_ends_as_one_that_is_not(tmp_path):
    with Federation(small(FLAT, *SERVED, *HALF, "data.server_test_fraction=0.1", "method.lr=0.05")) as made:
        made.run_round()
        saved = made.save(tmp_path / "flat")
        expected = list(made), made.fingerprint()
        made.restore(saved)
        assert (list(made)[-1].scores, made.fingerprint()) == (expected[0][-1].scores, expected[1])
    with Federation(small(TIERED, *TEAMS)) as made:
        made.run_round()
        saved = made.save(tmp_path / "tiered")
        expected = list(made), made.fingerprint()
        made.restore(saved)
        list(made)
        assert made.fingerprint() == expected[1]


def test_a_server_that_does_not_wait_computes_too(tmp_path):
    words = (*SERVED, *BUFFERED, "delays.server_device=phone_mid")
    resume_in_flight(small(FLAT, *words), tmp_path, 1, lambda snapshot: bool(snapshot.aloft.calls))


def test_the_global_model_is_tested_at_the_server_beside_its_clients():
    with Federation(small("fedavg", "data.server_test_fraction=0.1", "evaluation.metrics=[macro_f1,auc]")) as made:
        scores = made.run_round().scores
    assert list(scores) == ["GM", "server GM"]
    assert dict(scores["server GM"].clients) == {}
    assert scores["server GM"].accuracy == scores["server GM"].mean
    assert scores["server GM"].macro_f1 is not None
    assert "auc" in scores["server GM"].measures


@pytest.mark.parametrize(
    ("method", "words", "says"),
    [
        (FLAT, (), "round 1: Tuned computes on its servers, and these hold no samples. Set data.server_fraction"),
        ("hapfl", ("data.server_test_fraction=0.1",), "Hapfl has its clients evaluated in a way of its own"),
        ("fedavg", ("delays.server_device=lptop",), "delays.server_device=lptop: no such device class. Did you mean"),
    ],
)
def test_what_cannot_be_computed_is_said(method, words, says):
    with pytest.raises(ConfigError) as caught, Federation(small(method, "agents.policy=none", *words)) as made:
        made.run_round()
    assert says in str(caught.value)


def test_what_is_timed_alone_is_refused_where_the_server_takes_time():
    world = build_world(small(FLAT, *SERVED, "delays.server_device=laptop"))
    with pytest.raises(ConfigError, match="which the timing fidelity does not price"):
        TimedRounds(world)
    assert TimedRounds(build_world(small(FLAT, *SERVED))).play(None).round_s > 0


def test_rows_that_are_listed_leave_none_for_servers():
    data = from_arrays(np.arange(40.0)[:, None], np.arange(40) % 2)
    with pytest.raises(DataError, match=r"partition\.name=given lists who holds which rows"):
        Federation.from_config(
            "fedavg",
            {
                "runtime": "inprocess",
                "data": data,
                "partition": [range(20), range(20, 40)],
                "data.server_fraction": 0.1,
            },
        )
