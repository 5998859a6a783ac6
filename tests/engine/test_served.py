"""Models are taken out of a federation as they are evaluated: the module's own accuracy is the recorded one."""

import math

import pytest
import torch

from strata.engine.errors import StrataError
from strata.engine.federation import Federation
from tests.helpers.small import small

OF_FEDAVG = "Ask for its global model instead: --global of `strata export`, global_model() in Python."


def accuracy(module, world, client):
    """Share of a client's test rows that a module classifies correctly; pixels are scaled as the engine says."""
    dataset, rows = world.data.dataset, world.data.clients[client].test
    x = (torch.from_numpy(dataset.x[rows]).float() / 255 - dataset.shift) / dataset.scale
    with torch.no_grad():
        return float((module(x).argmax(1) == torch.from_numpy(dataset.y[rows])).float().mean())


@pytest.mark.parametrize("method", ["permfl", "hapfl", "fedproto", "perfedrlnas", "fedbabu", "pfedlora"])
def test_a_clients_model_has_the_accuracy_that_was_recorded(method):
    with Federation(small(method, "rounds=2", "agents.policy=none")) as federation:
        last = list(federation)[-1].scores["PM"].clients
        own = [federation.client_model(client) for client in range(3)]
        assert [accuracy(module, federation.world, client) for client, module in enumerate(own)] == pytest.approx(
            [last[client] for client in range(3)]
        )
        assert not any(module.training for module in own)


def test_the_global_and_the_teams_models_are_those_of_the_servers():
    with Federation(small("permfl", "rounds=1")) as federation:
        with pytest.raises(StrataError, match="team 1 has taken part in none of the 0 rounds"):
            federation.team_model(1)
        federation.run_round()
        snapshot = federation.rounds.snapshot()
        for name, value in federation.global_model().named_parameters():
            assert torch.equal(value, snapshot.server.x[name])
        for name, value in federation.team_model(1).named_parameters():
            assert torch.equal(value, snapshot.teams[1].w[name])


def test_what_was_taken_out_is_a_copy():
    with Federation(small("fedavg", "rounds=1")) as federation:
        before = federation.fingerprint()
        with torch.no_grad():
            for value in federation.global_model().parameters():
                value.fill_(math.pi)
        assert federation.fingerprint() == before


@pytest.mark.parametrize(
    ("method", "ask", "says"),
    [
        ("fedavg", lambda f: f.client_model(0), f"FedAvg has no personal models. {OF_FEDAVG}"),
        ("fedavg", lambda f: f.team_model(0), f"FedAvg has no team models. {OF_FEDAVG}"),
        (
            "standalone",
            lambda f: f.global_model(),
            "has no global model. Ask for its personal models instead: --client ID of `strata export`, "
            "client_model(i) in Python.",
        ),
        ("permfl", lambda f: f.client_model(8), "client 8: there is none. Expected a whole number from 0 to 7."),
        ("permfl", lambda f: f.team_model("1"), "team '1': there is none. Expected a whole number from 0 to 1."),
    ],
)
def test_what_there_is_not_is_said(method, ask, says):
    with Federation(small(method)) as federation, pytest.raises(StrataError) as caught:
        ask(federation)
    assert says in str(caught.value)
