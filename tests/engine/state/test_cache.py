"""Private states in memory and at rest: which of the two it is, nobody sees."""

import math
import random
import sqlite3
from dataclasses import dataclass

import pytest
import torch

from strata.engine.errors import StateError
from strata.engine.federation import Federation
from strata.engine.state.cache import StateCache
from strata.engine.state.encoding import types_in
from strata.engine.tree import fingerprint
from tests.helpers.small import small

EVERYBODY = range(1000)


@dataclass(frozen=True)
class Kept:
    """A state of 400 bytes and a little."""

    w: torch.Tensor
    seen: tuple[int, ...]
    score: float


TYPES = types_in(__name__)


def state(number):
    return Kept(torch.full((100,), float(number)), (number, number + 1), math.inf if number % 5 else number / 3)


@pytest.mark.parametrize("limit", [0.0, 2000.0, math.inf], ids=["one in memory", "a few", "all"])
def test_a_state_comes_back_as_it_was_put_in_wherever_it_was_in_between(limit):
    cache, expected, draw = StateCache(limit, TYPES), {}, random.Random(1)
    for step in range(2000):
        client = draw.randrange(30)
        if draw.random() < 0.4:
            cache.put(client, state(step), step)
            expected[client] = step
        elif draw.random() < 0.02:
            gone = draw.sample(range(30), 5)
            cache.drop(gone)
            expected = {client: number for client, number in expected.items() if client not in gone}
        elif client in expected:
            assert fingerprint(cache.get(client)) == fingerprint(state(expected[client]))
        else:
            assert client not in cache
            with pytest.raises(KeyError):
                cache.get(client)
    found = dict(cache.changed(EVERYBODY, -1))
    assert fingerprint(found) == fingerprint({client: state(number) for client, number in expected.items()})
    recent = {client for client, number in expected.items() if number > 1990}
    assert {client for client, _ in cache.changed(EVERYBODY, 1990)} == recent
    assert 0 < len(recent) < len(expected)


def test_memory_holds_no_more_than_its_limit():
    cache = StateCache(2500.0, TYPES)
    for client in range(50):
        cache.put(client, state(client), 1)
        assert cache.memory_bytes <= 2500
    assert cache.memory_bytes > 1000


def test_what_was_used_last_stays_in_memory():
    cache = StateCache(2500.0, TYPES)
    fill(cache, 5)
    used = cache.get(0)
    cache.put(5, state(5), 1)
    cache.put(6, state(6), 1)
    assert cache.get(0) is used


def test_a_state_that_could_not_be_restored_is_refused_when_it_must_go_to_the_disk():
    cache = StateCache(300.0, TYPES)
    cache.put(7, {"w": torch.zeros(100), "seen": {1, 2}}, 1)
    with pytest.raises(StateError, match=r"the state of client 7: \[seen\]: a set could not be restored"):
        cache.put(0, state(0), 1)


def fill(cache, clients):
    for client in range(clients):
        cache.put(client, state(client), 1)


def test_a_full_disk_is_an_error_that_says_what_to_do(monkeypatch):
    real = sqlite3.connect

    def small_disk(*arguments, **options):
        connection = real(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 10")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small_disk)
    cache = StateCache(300.0, TYPES)
    with pytest.raises(StateError, match=r"state\.cache_mib cannot be kept on the disk: .* full\. Free the temporary"):
        fill(cache, 300)


def test_after_a_failure_every_state_is_still_there():
    cache = StateCache(900.0, TYPES)
    fill(cache, 2)
    cache.put(7, {"w": torch.zeros(100), "seen": {1, 2}}, 1)
    with pytest.raises(StateError, match="the state of client 7"):
        fill(cache, 20)
    assert fingerprint(cache.get(0)) == fingerprint(state(0))
    assert fingerprint(cache.get(1)) == fingerprint(state(1))
    assert cache.get(7)["seen"] == {1, 2}


def test_few_clients_among_many_are_dropped_without_a_look_at_the_others():
    cache = StateCache(math.inf, TYPES)
    for client in range(1000):
        cache.put(client, None, 1)
    looked = []

    class Few(list):
        def __contains__(self, client):
            looked.append(client)
            return super().__contains__(client)

    cache.drop(Few([3, 5]))
    assert len(looked) <= 2
    assert {client for client, _ in cache.changed(EVERYBODY, -1)} == set(EVERYBODY) - {3, 5}


@pytest.mark.parametrize("method", ["lg_fedavg", "pfedlora"])
def test_a_run_whose_states_lie_on_the_disk_has_the_same_bits(method):
    prints = []
    for words in ((), ("state.cache_mib=0.00001",)):
        with Federation(small(method, "rounds=3", "clients.participation=0.5", *words)) as federation:
            list(federation)
            prints.append(federation.fingerprint())
    assert prints[0] == prints[1]
