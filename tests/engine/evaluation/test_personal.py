"""Personal models of methods without: each client's last one, or the global model fine-tuned."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from strata.engine.errors import ConfigError
from strata.engine.evaluation.personal import Kept
from strata.engine.federation import Federation
from tests.helpers.small import BUFFERED, HALF, played, resume_in_flight, rewind_and_replay, small

METHODS = ("fedavg", "fedprox", "scaffold", "hsgd", "fedddrl")
LAST, TUNED = "evaluation.personal=last", "evaluation.personal=tuned"
WHOLE = ("method.batch_size=600", "method.lr=0.1", "method.momentum=0.5", "method.weight_decay=0.01")
"""All of a client's rows in each step: plain descent, whatever the order of the rows."""


def rows_of(federation, client, side):
    """Inputs and classes of a client, as they reach a model."""
    data = federation.world.data
    rows = getattr(data.clients[client], side)
    x = torch.from_numpy(data.dataset.x[rows]).float().div(255)
    return (x - data.dataset.shift) / data.dataset.scale, torch.from_numpy(data.dataset.y[rows])


def descended(federation, model, client, steps):
    """A model after steps of heavy-ball SGD on all of a client's training rows, written out."""
    x, y = rows_of(federation, client, "train")
    values = list(model.parameters())
    speeds = [torch.zeros_like(value) for value in values]
    for _ in range(steps):
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), values)
        with torch.no_grad():
            for value, speed, gradient in zip(values, speeds, gradients, strict=True):
                speed.mul_(0.5).add_(gradient + 0.01 * value)
                value.sub_(0.1 * speed)
    return model


def assert_same(model, expected):
    for (name, value), other in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5, msg=name)


def test_the_global_model_is_fine_tuned_as_written_out():
    with Federation(small("fedavg", *WHOLE, *HALF, TUNED, "evaluation.tuned.epochs=3")) as federation:
        record = federation.run_round()
        accuracies = {}
        for client in range(8):
            expected = descended(federation, federation.global_model(), client, 3)
            assert_same(federation.client_model(client), expected)
            x, y = rows_of(federation, client, "test")
            accuracies[client] = float((expected(x).argmax(1) == y).float().mean())
        assert dict(record.scores["PM"].clients) == pytest.approx(accuracies)
        assert record.scores["PM"].clients != record.scores["GM"].clients


def test_the_last_model_is_the_one_that_a_client_trained_when_it_was_called():
    with Federation(small("fedavg", *WHOLE, *HALF, LAST, "method.epochs=2")) as federation:
        models = {}
        for _ in range(3):
            before = federation.global_model()
            record = federation.run_round()
            for client in map(int, record.calls.client):
                models[client] = descended(federation, deepcopy(before), client, 2)
        assert 0 < len(models) < 8
        for client in range(8):
            expected = models.get(client) or federation.global_model()
            assert_same(federation.client_model(client), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("personal", [LAST, TUNED])
def test_nothing_else_changes_and_nothing_is_charged(method, personal):
    words = (*HALF, "agents.policy=none")
    with Federation(small(method, *words)) as federation:
        plain, state = list(federation), federation.rounds.snapshot()
    with Federation(small(method, *words, personal)) as federation:
        found, after = list(federation), federation.rounds.snapshot()
    for one, other in zip(plain, found, strict=True):
        assert one.calls == other.calls
        assert (one.flops, one.virtual_s) == (other.flops, other.virtual_s)
        assert set(other.scores) - set(one.scores) == {"PM"}
        assert one.scores["GM"] == other.scores["GM"]
    assert found[-1].scores["PM"] != found[-1].scores["GM"]
    for left, right in zip(_tensors(state.server), _tensors(after.server), strict=True):
        assert torch.equal(left, right)
    if personal == TUNED:
        assert all(not isinstance(kept, Kept) for kept in after.clients.values())
        assert after.clients.keys() == state.clients.keys()


def _tensors(state):
    return [value for tree in vars(state).values() for value in tree.values()]


@pytest.mark.parametrize("method", ["fedavg", "scaffold"])
@pytest.mark.parametrize("personal", [LAST, TUNED])
def test_clients_together_are_evaluated_as_one_by_one(method, personal):
    one_by_one = played(method, *HALF, personal, "model=mlp", "model.hidden=[32]")[1]
    together = played(method, *HALF, personal, "model=mlp", "model.hidden=[32]", "training.batch_clients=8")[1]
    for one, other in zip(one_by_one, together, strict=True):
        assert other.scores["PM"].loss == pytest.approx(one.scores["PM"].loss, rel=1e-3)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("personal", [LAST, TUNED])
@pytest.mark.parametrize("words", [(), ("training.batch_clients=8",)])
def test_placement_changes_no_bit(personal, words):
    fingerprints = []
    for runtime in ("inprocess", "ray"):
        with Federation(small("fedavg", *HALF, personal, *words, runtime=runtime)) as federation:
            list(federation)
            fingerprints.append(federation.fingerprint())
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.parametrize("method", ["fedavg", "scaffold"])
def test_a_resumed_run_has_the_models_that_clients_last_trained(method, tmp_path):
    with Federation(small(method, *HALF, LAST, "rounds=6", "clients.participation=0.25")) as federation:
        rewind_and_replay(federation, tmp_path)


def test_models_that_do_not_fit_into_memory_lie_on_the_disk():
    whole, small_cache = (played("scaffold", *HALF, LAST, *words) for words in ((), ("state.cache_mib=0.05",)))
    assert whole[1][-1].scores == small_cache[1][-1].scores
    assert whole[2] == small_cache[2]


def test_a_resumed_run_is_fine_tuned_alike(tmp_path):
    with Federation(small("fedavg", *HALF, TUNED)) as federation:
        saved = federation.save(tmp_path)
        expected = [record.scores for record in federation]
        federation.restore(saved)
        assert [record.scores for record in federation] == expected


def test_servers_that_do_not_wait_have_them_too(tmp_path):
    config = small("fedavg", *BUFFERED, LAST, "rounds=6", "delays=classes")
    resume_in_flight(config, tmp_path, 3, lambda snapshot: snapshot.aloft.calls and snapshot.clients)
    _, records, _ = played("fedavg", *BUFFERED, TUNED)
    assert all("PM" in record.scores for record in records)


def test_batches_are_those_of_the_seed_and_the_client():
    def tuned(*words):
        return played("fedavg", TUNED, "method.batch_size=16", *words)[1][-1].scores["PM"]

    assert tuned() == tuned()
    assert tuned("evaluation.every=3") == tuned()


@pytest.mark.parametrize("method", ["permfl", "fedbabu", "fml", "hapfl"])
def test_methods_with_personal_models_of_their_own_refuse(method):
    with pytest.raises(ConfigError, match=rf"evaluation.personal=tuned: {method} has personal models of its own"):
        small(method, TUNED)


def test_what_cannot_fine_tune_is_refused():
    with pytest.raises(ConfigError, match=r"evaluation.tuned.epochs=0 is out of range: expected ≥ 1"):
        small("fedavg", TUNED, "evaluation.tuned.epochs=0")
    with pytest.raises(ConfigError, match=r"evaluation.personal='best': expected one of none, last, tuned"):
        small("fedavg", "evaluation.personal=best")
