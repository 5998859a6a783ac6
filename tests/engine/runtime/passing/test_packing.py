"""Messages between processes: packed, and lent to those who see each other's memory."""

import pickle
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
import ray
import torch
from ray import cloudpickle

from strata.engine.errors import ActorDiedError
from strata.engine.runtime import local_ray
from strata.engine.runtime.asking import Actor, answer, ask
from strata.engine.runtime.passing.packing import INLINE_BYTES, SEGMENTS, Greeting, Outgoing, Slot, packed, unpacked
from strata.engine.runtime.passing.segments import is_there
from strata.engine.runtime.shells import Shell


@pytest.fixture(autouse=True)
def nothing_lent():
    """What other tests lent does not count here."""
    SEGMENTS.forget()
    yield
    SEGMENTS.forget()


def message(bytes_each, tensors=2):
    return {"text": "x", "values": [np.arange(bytes_each // 8, dtype=np.int64) + n for n in range(tensors)]}


def sent(message):
    """What arrives of a packed message in another process."""
    return unpacked(pickle.loads(cloudpickle.dumps(message, protocol=5)))


def equal(one, other):
    return one["text"] == other["text"] and all(map(np.array_equal, one["values"], other["values"]))


@pytest.mark.parametrize("near", [True, False])
def test_a_small_message_is_sent_beside_the_call(near):
    small = message(INLINE_BYTES // 2)
    made = Outgoing(small).to_actor(near)
    assert made.loan is None
    assert equal(sent(made), small)


def test_a_large_message_is_lent_to_who_is_near_and_stored_once_for_the_others(monkeypatch):
    stored = []
    monkeypatch.setattr(ray, "put", lambda value: stored.append(value) or "reference")
    large = message(INLINE_BYTES // 2 + 8)
    outgoing = Outgoing(large)
    near = [outgoing.to_actor(near=True) for _ in range(2)]
    assert [outgoing.to_actor(near=False) for _ in range(2)] == ["reference"] * 2
    assert len(stored) == 1
    assert equal(sent(stored[0]), large)
    assert near[0].loan.name == near[1].loan.name
    assert len(cloudpickle.dumps(near[0])) < 1000
    for made in near:
        arrived = sent(made)
        assert equal(arrived, large)
        assert not arrived["values"][0].flags.writeable


def test_what_cannot_be_lent_is_stored(monkeypatch):
    monkeypatch.setattr(ray, "put", lambda value: "reference")
    monkeypatch.setattr(SEGMENTS, "lend", lambda views: None)
    large = message(INLINE_BYTES)
    assert Outgoing(large).to_actor(near=True) == "reference"
    assert equal(sent(Outgoing(large).to_asker(near=True)), large)


def test_what_changes_after_it_was_lent_does_not_change_what_arrives():
    array = np.ones(INLINE_BYTES)
    made = Outgoing(array).to_asker(near=True)
    array[:] = 0
    assert sent(made).sum() == INLINE_BYTES


class Pair(NamedTuple):
    left: object
    right: object


def read_only(message):
    """What arrives of a packed message out of Ray's object store."""
    return unpacked(message._replace(buffers=[memoryview(buffer).toreadonly() for buffer in message.buffers]))


@pytest.mark.parametrize("arrive", [sent, read_only])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).view(2, 3),
        torch.tensor(3),
        torch.arange(6.0).view(2, 3).t(),
        torch.arange(8.0)[2:5],
        torch.zeros(0, 2),
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(2, requires_grad=True) * 2,
    ],
)
def test_tensors_arrive_as_tensors_of_their_own_that_may_be_written_to(arrive, tensor):
    before = tensor.detach().clone()
    came = arrive(packed(Pair({"w": tensor}, (tensor, 1))))
    assert type(came) is Pair
    assert torch.equal(came.left["w"], before)
    assert came.left["w"].dtype == before.dtype
    assert came.right == (came.left["w"], 1)  # the same, as it was
    came.left["w"].add_(1)
    assert torch.equal(came.right[0], before + 1)


def test_what_pickle_cannot_send_is_sent_all_the_same(monkeypatch):
    class Local:
        def __init__(self, tensor):
            self.tensor = tensor

    came = sent(packed([Local(torch.ones(2)), lambda: 3]))
    assert came[0].tensor.tolist() == [1, 1]
    assert came[1]() == 3
    of_a_script = type("OfAScript", (), {"__module__": "__main__", "__qualname__": "OfAScript"})
    monkeypatch.setattr(sys.modules["__main__"], "OfAScript", of_a_script, raising=False)
    body = packed(of_a_script()).body
    monkeypatch.delattr(sys.modules["__main__"], "OfAScript")
    assert type(pickle.loads(body)).__name__ == "OfAScript"  # though its script is not there


def test_slots_are_filled_with_what_travels_beside_the_message():
    calls = packed([(1, Slot(1)), {"a": Slot(0), "b": Slot(1)}])
    beside = [torch.ones(2), {"model": torch.zeros(1)}]
    ((_, one), by_name) = unpacked(calls, beside)
    assert one is by_name["b"] is beside[1]
    assert by_name["a"] is beside[0]
    with pytest.raises(IndexError):
        unpacked(calls, beside[:1])


def test_an_actor_on_another_machine_lends_nothing_and_is_lent_nothing():
    sign = SEGMENTS.sign
    far = Greeting("actor", sign._replace(name="strata-of-another-machine"), sees=False)
    assert far.returned() == Greeting("actor", sign, sees=False)
    assert Greeting("actor", None, sees=True).returned().sees is False
    assert Greeting("actor", sign, sees=False).returned() == Greeting("actor", sign, sees=True)


class Keeper:
    """Keeps what it is given."""

    def keep(self, given):
        self.given = given
        return float(given["values"][0][-1])

    def give(self):
        return self.given


@pytest.fixture(scope="module")
def ray_here():
    """A local Ray of a CPU."""
    local_ray.start(1, 0)
    yield
    ray.shutdown()


@pytest.fixture
def actor(ray_here):
    process = ray.remote(Shell).options(num_cpus=0.1).remote(0, Keeper)
    yield Actor(process, 0)
    ray.kill(process)


def passed(actor, given):
    """What an actor gives back of what it was given, and what was lent on the way."""
    outgoing = Outgoing(given)
    answer(ask(actor, "keep", (Slot(0),), outgoing), "keeper")
    ref = ask(actor, "give", ())
    return answer(ref, "keeper"), outgoing._lending is not None, ray.get(ref).message.loan is not None


@pytest.mark.slow
def test_actors_of_one_machine_lend_each_other_what_is_large_once_they_have_met(actor):
    large = message(INLINE_BYTES)
    for lent in ((False, True), *[(True, True)] * 4):
        given, *found = passed(actor, large)
        assert equal(given, large)
        assert tuple(found) == lent
        del given
    assert len(SEGMENTS._own) == 3  # the sign, and two in turns: the keeper still has the last when the next comes
    assert passed(actor, message(100))[1:] == (False, False)


@pytest.mark.slow
def test_an_answer_that_its_actor_takes_with_it_is_a_death_of_that_actor(actor):
    passed(actor, message(INLINE_BYTES))
    ref = ask(actor, "give", ())
    ray.wait([ref])
    ray.kill(actor.process)
    SEGMENTS.forget()  # or it would be in view still
    loan = ray.get(ref).message.loan
    while is_there(loan):  # until its process has gone
        time.sleep(0.01)
    with pytest.raises(ActorDiedError, match=r"^keeper: process \d+ ended before what it said was read"):
        answer(ref, "keeper")


@pytest.mark.slow
def test_actors_that_begin_again_lend_anew(actor):
    large = message(INLINE_BYTES)
    passed(actor, large)
    passed(actor, large)
    assert ray.get(actor.process.begin_again.remote(1, Keeper))
    again = Actor(actor.process, 1)
    for _ in range(3):
        given, *_ = passed(again, large)
        assert equal(given, large)
        del given
    assert passed(again, large)[1:] == (True, True)
