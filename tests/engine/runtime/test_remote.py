"""What comes of tasks in actors, with Ray's own answers played: no Ray is started."""

from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError as RayActorDied

from strata.engine.errors import ActorDiedError
from strata.engine.method.calls import NO_TEAM, CallTable
from strata.engine.rounds.pools import ClientCall, Failure, TeamReply
from strata.engine.runtime import remote
from strata.engine.runtime.asking import as_they_come
from strata.engine.runtime.remote import RayClients, RayTeams


@pytest.fixture
def tasks(monkeypatch):
    """Answers by reference, there once they are put in; gives them, and how many references each wait was about."""
    answers, waits = {}, []

    def wait(refs, num_returns=1, timeout=None, fetch_local=True):
        waits.append(len(refs))
        there = [ref for ref in refs if ref in answers][:num_returns]
        return there, [ref for ref in refs if ref not in there]

    def get(ref):
        if isinstance(answers[ref], Exception):
            raise answers[ref]
        return answers[ref]

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", get)
    return answers, waits


def test_an_actor_that_died_is_a_failure_for_each_of_its_calls_and_the_others_answer(tasks):
    answers, _ = tasks
    answers |= {"a": ["reply 0", "reply 1"], "b": RayActorDied(), "c": ["reply 4"]}
    tickets = [("a", 0, "0"), ("b", 0, "clients 2, 3, round 1"), ("b", 1, "clients 2, 3, round 1"), ("a", 1, "1")]
    results = list(RayClients([], []).results([*tickets, ("c", 0, "4")]))
    assert [r for r in results if isinstance(r, str)] == ["reply 0", "reply 1", "reply 4"]
    lost = [r.error for r in results if isinstance(r, Failure)]
    assert [type(error) for error in lost] == [ActorDiedError] * 2
    assert all(str(error).startswith("clients 2, 3, round 1: the actor's process ended") for error in lost)


def test_a_team_whose_actor_died_is_a_failure_and_the_others_answer(tasks):
    answers, _ = tasks
    reply = TeamReply(1, None, 0, 0.0, [], CallTable.of([]), 0, 0)
    answers |= {"a": RayActorDied(), "b": [reply]}
    lost, there = RayTeams([], {}).results([("a", 0, "team server 0, round 1"), ("b", 0, "team server 1, round 1")])
    assert isinstance(lost, Failure)
    assert str(lost.error).startswith("team server 0, round 1: the actor's process ended")
    assert there.team == 1


def test_all_that_is_there_is_taken_at_once(tasks):
    answers, waits = tasks
    answers |= {f"{n}": n for n in range(100)}
    assert [found for _, found, _ in as_they_come([(f"{n}", 0, "") for n in range(100)])] == list(range(100))
    assert sum(waits) <= 2 * 100


def test_calls_that_any_actor_may_make_go_to_the_one_with_least_to_do(monkeypatch):
    asked = []
    monkeypatch.setattr(
        remote, "ask", lambda actor, verb, arguments, *shared: asked.append((actor, arguments)) or "ref"
    )
    actors = [SimpleNamespace(_actor_id=name) for name in "ab"]
    homes = [0, 0, 0, 0, 1, 1]
    calls = [ClientCall(client, NO_TEAM, 1, 1, {}) for client in range(4)]
    work = [10, 60, 20, 30, 0, 0]
    tickets = RayClients(actors, homes, work=work).submit(calls)
    dealt = {actor._actor_id: [call.client for call in sent] for actor, (sent,) in asked}
    assert dealt == {"a": [1], "b": [0, 2, 3]}  # 60, and 30 + 20 + 10
    assert [number for _, number, _ in tickets] == [0, 0, 1, 2]
    asked.clear()
    RayClients(actors, homes).submit(calls)
    assert [actor._actor_id for actor, _ in asked] == ["a"]


def test_what_any_actor_may_have_called_is_asked_of_all_and_given_back_to_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(remote, "ask", lambda actor, *message: asked.append((actor._actor_id, *message)) or "ref")
    monkeypatch.setattr(remote, "answer", lambda ref, where: {})
    actors = [SimpleNamespace(_actor_id=name) for name in "ab"]
    pool = RayClients(actors, [0, 0, 0, 0, 1, 1], work=[1] * 6)
    pool.states([0, 1], 3)
    assert asked == [("a", "clients.states", ([0, 1], 3)), ("b", "clients.states", ([0, 1], 3))]
    asked.clear()
    pool.restore([0, 1], {1: None})
    assert asked == [("a", "clients.restore", ([0, 1], {1: None})), ("b", "clients.restore", ([0, 1], {}))]


def test_one_call_after_the_other_goes_to_the_actor_with_least_to_do_until_it_answers(monkeypatch, tasks):
    answers, _ = tasks
    asked = []

    def ask(actor, verb, arguments, *shared):
        asked.append(actor._actor_id)
        return len(asked)

    monkeypatch.setattr(remote, "ask", ask)
    pool = RayClients([SimpleNamespace(_actor_id=name) for name in "ab"], [0] * 6, work=[10, 30, 10, 10, 10, 10])
    tickets = [pool.submit([ClientCall(client, NO_TEAM, 1, 1, {})])[0] for client in range(4)]
    assert asked == ["a", "b", "a", "a"]  # 10; 30; 20; 30, as much as the other
    answers[2] = ["reply 2"]  # for which nobody has asked yet
    pool.submit([ClientCall(4, NO_TEAM, 2, 1, {})])
    assert asked[4] == "b"
    assert list(pool.results([tickets[1]])) == ["reply 2"]
    answers |= {1: ["reply 1"], 3: ["reply 3"]}
    assert list(pool.results([tickets[0], tickets[2]])) == ["reply 1", "reply 3"]
    pool.submit([ClientCall(client, NO_TEAM, 2, 1, {}) for client in (5, 0)])
    assert asked[5:] == ["a", "b"]  # each has 10 to do


def test_what_a_task_answers_is_fetched_once_however_its_calls_are_asked_for(monkeypatch, tasks):
    answers, waits = tasks
    answers |= {"a": ["reply 0", "reply 1", "reply 2"]}
    pool = RayClients([], [])
    found = [list(pool.results([("a", number, "")])) for number in (1, 0, 2)]
    assert found == [["reply 1"], ["reply 0"], ["reply 2"]]
    assert len(waits) == 2  # for the first alone


def test_settling_goes_to_the_actors_of_the_clients_and_to_nobody_where_nothing_is_kept(monkeypatch):
    asked = []
    monkeypatch.setattr(remote, "ask", lambda actor, *message: asked.append((actor._actor_id, *message)) or "ref")
    actors = [SimpleNamespace(_actor_id=name) for name in "ab"]
    RayClients(actors, [0, 0, 1, 1]).settle([(1, 3, 1), (2, 4, 1), (3, 5, 1)], 7)
    assert asked == [("a", "clients.settle", ([(1, 3, 1)], 7)), ("b", "clients.settle", ([(2, 4, 1), (3, 5, 1)], 7))]
    asked.clear()
    RayClients(actors, [0, 0, 1, 1], work=[1] * 4).settle([(1, 3, 1), (2, 4, 1)], 7)
    assert asked == []
