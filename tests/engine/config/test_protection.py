"""Robust means that cannot be formed, and of which runs an ε is said."""

import sys

import pytest
import torch

from strata.engine.build import build_world
from strata.engine.config import protection
from strata.engine.config.foreword import foreword
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.situation import Decisions
from strata.engine.transport.privacy import Privacy
from tests.helpers.small import BUFFERED, small

LATE = ("clients.mode=deadline", "clients.deadline_s=1000")  # nobody is, but no ε is asked for
SIZES = ("partition=dirichlet", "partition.alpha=0.5")
NOISE = ("transport.up=[clip,noise]", "transport.feedback=false", "agents.policy=none", "data.limit=400")
AT_CLIENT = "transport.noise.at=client"


@pytest.fixture
def accountant_aside(monkeypatch):
    """What follows does not need the accountant."""
    monkeypatch.setattr(protection, "require_accountant", lambda: None)


def privacy(method, *words):
    return build_world(small(method, *NOISE, *words)).privacy


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["robust.mean=trimmed", "robust.share=0.05"],
            r"of 8 uploads that are taken in together, trimmed would cut none",
        ),
        (["robust.mean=krum", "clients.participation=0.5"], r"of 4 uploads .*, 1 may be hostile, and krum needs 5"),
        (["robust.mean=multi_krum", *BUFFERED], r"of 2 uploads .*, 0 may be hostile, and multi_krum needs 3"),
    ],
)
def test_too_few_uploads_are_refused_before_the_start(words, says):
    with pytest.raises(ConfigError, match=says):
        build_world(small("fedavg", *words))


@pytest.mark.parametrize("method", ["fedproto", "fedkd", "standalone"])
def test_uploads_without_a_model_have_no_robust_mean(method):
    with pytest.raises(ConfigError, match="holds no model that its sender was sent"):
        build_world(small(method, "robust.mean=median"))


def test_models_of_several_sizes_are_refused_when_they_come():
    with Federation(small("hapfl", "robust.mean=median", "agents.policy=none")) as federation:
        federation.run_round()  # by default all have one size
        with pytest.raises(ConfigError, match=r"robust.mean=median: uploads of clients \d and \d differ in local\["):
            federation.run_round(Decisions({client: {"size": client % 2} for client in range(8)}))


@pytest.mark.parametrize(
    ("method", "words", "why"),
    [
        ("permfl", [], "permfl has teams"),
        ("fedtp", [], "fedtp uses uploads otherwise than in a mean"),
        ("fedavg", ["clients.mode=deadline", "clients.deadline_s=1"], "clients.mode=deadline"),
        ("fedavg", ["clients.mode=async"], "clients.mode=async"),
        ("fedavg", ["delays.availability=0.5"], "not always there"),
        ("fedavg", ["agents.policy=random"], "agents.policy=random: agents decide who takes part"),
        ("fedavg", ["robust.mean=median"], "robust.mean=median forms no sum"),
        ("fedavg", ["transport.up=[clip,noise,quantise]"], "quantise can make a change longer"),
        ("hapfl", [], "an upload's entropy is no float tensor"),
        ("perfedrlnas", [], "an upload's accuracy is no float tensor"),
        ("fedproto", [AT_CLIENT], "an upload's prototypes.classes is no float tensor"),
    ],
)
def test_where_it_does_not_hold_no_epsilon_is_given(method, words, why, accountant_aside):
    config = small(method, *NOISE, *words)
    world = build_world(config)
    assert why in world.privacy.none
    assert f"transport.noise: no ε is given: {world.privacy.none}" in list(foreword(config, world))


def test_what_an_epsilon_is_of(accountant_aside):
    central = privacy("scaffold", "clients.participation=0.5", "transport.noise.multiplier=3")
    assert central == Privacy(3.0, 1 / 8, clients=8, cohort=4, at_server=True)
    seen = privacy("fedprox", "evaluation.unseen=0.25", "transport.noise.delta=0.01")
    assert (seen.clients, seen.cohort, seen.delta) == (6, 6, 0.01)
    local = privacy("permfl", AT_CLIENT)
    assert (local.at_server, local.exchanges, local.none) == (False, 3, "")
    assert privacy("fedavg", AT_CLIENT, "clients.mode=async", "robust.mean=krum", "clients.buffer=5").none == ""
    assert build_world(small("fedavg")).privacy is None


def test_noise_without_the_accountant_stops_a_run_before_it_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r'pip install "strata-fl\[dp\]"'):
        Federation(small("fedavg", *NOISE))


def test_rounds_that_are_evaluated_say_their_epsilon():
    pytest.importorskip("dp_accounting", reason="needs strata-fl[dp]")
    config = small("fedavg", *NOISE, "rounds=4", "evaluation.every=2", "clients.participation=0.5")
    said = []
    with Federation(config, said.append) as federation:
        records = list(federation)
        expected = [federation.world.privacy.epsilon(rounds) for rounds in (2, 4)]
    assert [record.metrics.get("privacy/epsilon") for record in records] == [None, expected[0], None, expected[1]]
    assert records[-1].metrics["privacy/delta"] == 1 / 8
    (line,) = [line for line in said if line.startswith("transport.noise")]
    assert line.startswith(
        f"transport.noise: ε = {expected[1]:.3g} at δ = 0.125 after 4 rounds, of the server's models"
    )
    assert "4 of 8 drawn without replacement per round, whose uploads count alike" in line


def test_uploads_count_alike_under_a_servers_noise(accountant_aside):
    words = (*NOISE, "transport.clip.norm=1e6", "transport.noise.multiplier=1e-12", *SIZES, *LATE)
    with Federation(small("fedavg", *words)) as federation:
        federation.run_round()
        noisy = federation.rounds.snapshot().server.w
    models = []
    for client in range(8):
        with Federation(small("fedavg", "data.limit=400", *SIZES)) as federation:
            federation.run_round(Decisions({client: {}}))
            models.append(federation.rounds.snapshot().server.w)
    sizes = [len(rows.train) for rows in federation.world.data.clients]
    assert len(set(sizes)) > 1
    for name, value in noisy.items():
        assert torch.allclose(value, sum(model[name] for model in models) / 8, atol=1e-5)
        assert not torch.allclose(
            value, sum(n * m[name] for n, m in zip(sizes, models, strict=True)) / sum(sizes), atol=1e-5
        )
