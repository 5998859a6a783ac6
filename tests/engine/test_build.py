"""From a configuration to its world, and the updates by which teams may be formed.

# D features, K classes
"""

import re

import numpy as np
import pytest
import torch

from strata.engine.build import build_world, first_updates
from strata.engine.data.dataset import ClientData
from strata.engine.errors import ConfigError
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.params import flatten
from strata.engine.seeding import derive
from tests.helpers.arithmetic.softmax import gradient
from tests.helpers.small import small
from tests.helpers.training import DATA, D, K

MODEL = ModelSpec("mclr", (D,), K)


def test_a_tiered_method_has_teams_and_a_flat_one_has_none():
    said = ("teams.count=3", "clients.count=7", "data.limit=200")
    tiered, flat = build_world(small("permfl", *said)), build_world(small("fedavg", *said))
    assert sorted(client for members in tiered.data.teams.values() for client in members) == list(range(7))
    assert (len(tiered.data.teams), dict(flat.data.teams)) == (3, {})
    assert len(tiered.profiles) == len(tiered.data.clients) == 7


def test_each_part_of_the_configuration_reaches_what_it_is_for():
    said = [
        "data.limit=200", "clients.mode=deadline", "clients.deadline_s=2", "clients.participation=0.5", "seed=3",
        "teams.participation=0.25", "evaluation.batch_size=17", "delays=none", "delays.server_latency_s=1.5",
        "delays.team_latency_s=2.5", "method.batch_size=9",
    ]  # fmt: skip
    made = build_world(small("permfl", *said))
    plan = made.clients_plan
    assert (plan.mode, plan.deadline_s, plan.participation) == ("deadline", 2.0, 0.5)
    assert (made.teams_plan.mode, made.teams_plan.participation) == ("sync", 0.25)
    assert (made.seed, made.evaluation_batch, made.sleep_scale) == (3, 17, 0.0)
    assert (made.server_profile.latency_s, made.team_profile.latency_s) == (1.5, 2.5)
    assert {profile.device for profile in made.profiles} == {"ideal"}
    assert (made.algorithm.config.batch_size, made.algorithm.model.classes) == (9, 10)


@pytest.mark.parametrize(("mode", "scale"), [("virtual", 0.0), ("sleep", 0.25)])
def test_clients_sleep_in_the_mode_that_says_so(mode, scale):
    said = (f"delays.mode={mode}", "delays.sleep_scale=0.25", "data.limit=200")
    assert build_world(small("fedavg", *said)).sleep_scale == scale


def test_an_update_is_what_a_client_changes_of_a_common_fresh_model_in_an_epoch():
    # Fewer samples than a batch: one full step of SGD, −lr · gradient, whatever their order.
    clients = [ClientData(np.arange(5), np.arange(0)), ClientData(np.arange(5, 12), np.arange(3))]
    start = init_params(MODEL, derive(4, "similarity"))
    expected = []
    for client in clients:
        x, y = DATA.x[client.train].astype("f8"), DATA.y[client.train]
        weight, bias = (start[name].double().numpy() for name in ("head.weight", "head.bias"))
        steps = zip(("head.weight", "head.bias"), gradient(weight, bias, x, y), strict=True)
        expected.append(flatten({name: torch.from_numpy(-0.1 * step) for name, step in steps}).numpy())
    updates = first_updates(MODEL, DATA, clients, seed=4)
    assert (updates.shape, updates.dtype) == ((2, D * K + K), np.float32)
    np.testing.assert_allclose(updates, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(first_updates(MODEL, DATA, clients, seed=4), updates)
    assert not np.array_equal(first_updates(MODEL, DATA, clients, seed=5), updates)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["training.batch_clients=1"], "training.linear=dual is for clients that train together: expected "),
        (["training.batch_clients=8", "model=mlp"], "training.linear=dual: model.name=mlp is not one linear layer."),
    ],
)
def test_the_dual_form_is_refused_where_nobody_could_be_trained_in_it(words, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        build_world(small("permfl", "training.linear=dual", *words))
    assert build_world(small("permfl", "training.linear=dual", "training.batch_clients=8")).dual
    assert not build_world(small("permfl", *words)).dual
