"""The clients of a process: each call is made once, in the order in which calls were handed over."""

from dataclasses import replace

import pytest

from strata.engine.build import build_world
from strata.engine.errors import StateError, TrainingError
from strata.engine.method.calls import NO_TEAM
from strata.engine.method.messages import ClientResult
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import ClientCall, EvaluationCall, Failure, Queue
from tests.helpers.small import small

BROKEN = 5


ALL = -1  # changed after the round before the first


@pytest.fixture
def made(monkeypatch):
    """The host's clients, and the ids of those that were called, in order; client 5 breaks."""
    world, order = build_world(small("fedavg")), []

    def client_step(self, info, state, down, context):
        order.append(info.id)
        if info.id == BROKEN:
            raise TrainingError("no gradient")
        return ClientResult(state=len(order), up=down)
        yield

    def client_evaluate(self, info, state, shared):
        return {}
        yield

    monkeypatch.setattr(type(world.algorithm), "stateless", False)
    monkeypatch.setattr(type(world.algorithm), "client_step", client_step)
    monkeypatch.setattr(type(world.algorithm), "client_evaluate", client_evaluate)
    return ClientHost(world, "cpu"), order


def call(client):
    return ClientCall(client, NO_TEAM, 1, 1, {}, 1.0)


def test_asking_again_for_a_result_does_not_make_the_call_again(made):
    host, order = made
    tickets = host.submit([call(1), call(2)])
    first, again = list(host.results(tickets)), list(host.results(tickets))
    assert order == [1, 2]
    assert [reply.client for reply in first] == [1, 2]
    assert first == again


def test_calls_are_made_in_the_order_in_which_they_were_handed_over(made):
    host, order = made
    early, late = host.submit([call(3), call(1)]), host.submit([call(2), call(0)])
    (reply,) = host.results(late[:1])
    assert (reply.client, order) == (2, [3, 1, 2])
    assert [reply.client for reply in host.results([early[1], early[0]])] == [1, 3]
    assert order == [3, 1, 2]


@pytest.mark.parametrize(
    "look",
    [lambda host: host.states([4], ALL), lambda host: host.evaluate(EvaluationCall([4], {}))],
    ids=["states", "scores"],
)
def test_a_call_for_whose_result_nobody_asks_is_made_all_the_same(made, look):
    host, order = made
    host.submit([call(4)])
    look(host)
    assert order == [4]
    assert host.states([4], ALL) == {4: 1}


def test_a_call_that_breaks_is_one_failure_and_the_others_go_on(made):
    host, _ = made
    first, broken, last = host.results(host.submit([call(1), call(BROKEN), call(2)]))
    assert isinstance(broken, Failure)
    assert str(broken.error) == "client 5, round 1: no gradient"
    assert (first.client, last.client) == (1, 2)


def test_calls_that_were_not_made_are_forgotten_when_the_clients_are_rewound(made):
    host, order = made
    tickets = host.submit([call(1)])
    host.restore(range(8), {2: "kept"})
    assert host.states(range(8), ALL) == {2: "kept"}
    with pytest.raises(ValueError, match="was handed over before the states were restored"):
        list(host.results(tickets))
    assert order == []


def test_two_calls_of_one_client_are_never_made_at_once():
    groups = []

    def make(calls):
        groups.append([call.client for call in calls])
        return list(calls)

    queue = Queue(make, width=3, whose=lambda call: call.client)
    tickets = queue.submit([call(client) for client in (1, 2, 1, 3, 4, 5, 6)])
    assert [made.client for made in queue.results(tickets)] == [1, 2, 1, 3, 4, 5, 6]
    assert groups == [[1, 2], [1, 3, 4], [5, 6]]


def test_a_stateless_method_may_not_keep_a_state(made, monkeypatch):
    host, _ = made
    monkeypatch.setattr(type(host._world.algorithm), "stateless", True)
    (failure,) = host.run([call(1)])
    with pytest.raises(StateError, match="client 1, round 1: FedAvg says that its clients are stateless"):
        raise failure.error


def test_states_that_have_changed_since_a_round_are_those_of_the_clients_called_after_it(made):
    host, _ = made
    later = [replace(call(client), round=2) for client in (2, 3)]
    list(host.results(host.submit([call(1), call(2), *later])))
    assert host.states(range(8), ALL) == {1: 1, 2: 3, 3: 4}
    assert host.states(range(8), 1) == {2: 3, 3: 4}
    assert host.states([3, 1], 1) == {3: 4}
    host.restore(range(8), {1: "restored", 2: "too"})
    assert host.states(range(8), 0) == {}
    assert host.states(range(8), ALL) == {1: "restored", 2: "too"}
