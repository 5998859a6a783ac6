"""Stages and attacks around what clients do, by hand and in whole runs: bits, bytes, clocks, states."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from strata.engine.evaluation.personal import Kept, Service
from strata.engine.federation import Federation
from strata.engine.method.messages import ClientResult, Context
from strata.engine.rounds.costs import CallCosts
from strata.engine.rounds.timed import TimedRounds
from strata.engine.transport.coding import TopK
from strata.engine.transport.service import Attacking, Owing, Transported, WithFeedback, carried
from strata.engine.transport.wire import Line
from tests.helpers.small import BUFFERED, HALF, played, resume_in_flight, rewind_and_replay, small


@dataclass(frozen=True)
class Model:
    w: dict


class Given(Service):
    """Every client's change in each of its calls is the next of those given."""

    def __init__(self, changes):
        self._changes = iter(changes)

    def first_state(self, info, seed):
        return None

    def call(self, info, state, down, context):
        yield from ()
        change = next(self._changes)
        return ClientResult(Model({name: down.w[name] + value for name, value in change.items()}), state)


def called(service, info, state, down, round=1):
    """What a call comes to: the upload's change of what was sent, and the state after it."""
    steps = service.call(info, state, down, Context(round, 1, round))
    try:
        next(steps)
    except StopIteration as stop:
        up = stop.value.up
        return {name: up.w[name] - value for name, value in down.w.items()}, stop.value.state
    raise AssertionError("these clients ask for nothing")


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


ANYBODY = SimpleNamespace(id=3)
SENT = Model({"a": vector(*[10.0] * 16)})
COMPRESSED = ("transport.up=[top_k,quantise]", "transport.top_k.share=0.05", "transport.down=[quantise]")
METHODS = ("fedavg", "scaffold", "permfl", "hsgd", "fedproto", "fedkd", "hapfl", "fedtp", "perfedrlnas", "standalone")


def test_what_was_not_sent_comes_with_later_changes():
    changes = [{"a": torch.randn(16, generator=torch.Generator().manual_seed(seed))} for seed in range(6)]
    line = Line(stages=(TopK(0.25),), keeps=True)
    service = carried(Given(changes), line, (), 1.0)
    assert isinstance(service, WithFeedback)
    state, received = service.first_state(ANYBODY, 0), torch.zeros(16)
    for round, change in enumerate(changes, 1):
        due = change["a"] + state.owed.get(".w[a]", torch.zeros(16))
        sent, state = called(service, ANYBODY, state, SENT, round)
        assert int((sent["a"] != 0).sum()) <= 4
        kept = due.abs().argsort(descending=True)[:4]
        assert torch.allclose(sent["a"][kept], due[kept], atol=1e-5)
        received += sent["a"]
        total = sum(one["a"] for one in changes[:round])
        assert torch.allclose(received + state.owed[".w[a]"], total, atol=1e-4)
        assert round == 1 or not torch.allclose(received, total, atol=1e-2)


def test_what_is_owed_to_another_shape_is_forgotten():
    service = WithFeedback(Given([{"a": torch.ones(8)}]), Line(stages=(TopK(0.25),), keeps=True))
    before = Owing(None, {".w[a]": torch.full((16,), 5.0)})
    _, after = called(service, ANYBODY, before, Model({"a": torch.zeros(8)}))
    assert sorted(after.owed[".w[a]"].tolist()) == [0, 0, 1, 1, 1, 1, 1, 1]


def test_attackers_alone_upload_a_multiple_of_their_change():
    change = {"a": vector(*range(16))}
    service = Attacking(Given([change, change]), [3], -2.0)
    assert called(service, ANYBODY, None, SENT)[0]["a"].tolist() == (-2 * change["a"]).tolist()
    assert called(service, SimpleNamespace(id=4), None, SENT)[0]["a"].tolist() == change["a"].tolist()


def test_attackers_are_clipped_like_everybody():
    service = carried(Given([{"a": vector(3, 4, *[0] * 14)}]), Line(norm=5.0), [3], -100.0)
    assert called(service, ANYBODY, None, SENT)[0]["a"].tolist()[:2] == pytest.approx([-3, -4])


def test_numbers_that_are_none_are_left_for_the_server_to_refuse():
    broken = {"a": vector(float("nan"), *[1] * 15)}
    for service in (Transported(Given([broken]), Line(norm=1.0)), WithFeedback(Given([broken]), Line(norm=1.0))):
        sent, _ = called(service, ANYBODY, service.first_state(ANYBODY, 0) or Owing(None, {}), SENT)
        assert sent["a"].isnan().tolist() == [True] + [False] * 15
        assert sent["a"][1:].tolist() == [1] * 15


def test_without_stages_and_attackers_nothing_stands_around():
    plain = Given([])
    assert carried(plain, Line(), (), 1.0) is plain
    assert carried(plain, Line(), (3,), 1.0) is plain  # they flip labels, and upload as they are


@pytest.mark.parametrize("method", METHODS)
def test_calls_weigh_what_they_were_priced_and_less_than_before(method):
    plain = played(method, "rounds=1", "agents.policy=none")[1][0]
    with Federation(small(method, "rounds=1", "agents.policy=none", *COMPRESSED)) as federation:
        record = federation.run_round()
        costs = CallCosts(federation.world)
        clients, calls = record.calls.client.tolist(), record.calls
        priced = [costs.call(client, {}) for client in clients]
    assert calls.bytes_down.tolist() == [cost.bytes_down for cost in priced]
    if method == "fedkd":  # whose ranks follow from what was learnt
        assert (calls.bytes_up >= [cost.bytes_up for cost in priced]).all()
    elif method != "fedproto":  # whose prototypes are of the classes that occur
        assert calls.bytes_up.tolist() == [cost.bytes_up for cost in priced]
    assert plain.calls.client.tolist() == clients
    if method == "standalone":
        assert plain.calls.bytes_up.tolist() == calls.bytes_up.tolist()
    else:
        assert (plain.calls.bytes_up > calls.bytes_up).all()
        assert (plain.virtual_s > record.virtual_s) or method == "fedproto"


@pytest.mark.parametrize(("method", "cohort"), [("fedavg", 4), ("hsgd", 2)])
def test_secure_aggregation_is_priced_by_the_cohort(method, cohort):
    with Federation(small(method, *HALF, "rounds=1", "transport.up=[quantise,secure]")) as federation:
        calls = federation.run_round().calls
        priced = CallCosts(federation.world).call(int(calls.client[0]), {})
    numbers, sums = 7850, {4: 10, 2: 9}[cohort]  # of 255 · n + 1 values
    assert (calls.bytes_up == -(-(512 + 256 * (3 * cohort - 2) + numbers * sums) // 8)).all()
    assert (calls.bytes_up[0], calls.bytes_down[0]) == (priced.bytes_up, priced.bytes_down)


def test_timed_rounds_take_the_seconds_of_real_ones():
    with Federation(small("fedavg", *HALF, *COMPRESSED, "robust.mean=median", "agents.policy=none")) as federation:
        timed = TimedRounds(federation.world)
        for record in federation:
            report = timed.play(None)
            assert report.round_s == record.round_s
            assert report.calls.bytes_up.tolist() == record.calls.bytes_up.tolist()
            assert report.calls.bytes_down.tolist() == record.calls.bytes_down.tolist()


def test_teams_that_are_not_waited_for_are_priced_without_a_robust_mean():
    words = ("teams.mode=async", "teams.count=2", "teams.buffer=1", "robust.mean=median", *COMPRESSED)
    _, records, _ = played("hsgd", *words)
    assert len(records) == 3
    assert all(record.completed for record in records)


def test_the_share_of_the_bytes_is_the_one_of_the_formula():
    plain, coded = (played("fedavg", "rounds=1", *words)[1][0] for words in ((), COMPRESSED[:2]))
    numbers = 784 * 10, 10
    kept = [-(-number // 20) for number in numbers]  # a twentieth, rounded up
    first = 4 + kept[0] + min(4 * kept[0], numbers[0] // 8)
    assert (plain.calls.bytes_up == 4 * sum(numbers)).all()
    # Of ten numbers one is kept, in 4 bytes beside 2 of flags; a byte and a scale would be more.
    assert (coded.calls.bytes_up == first + 4 + 2).all()


@pytest.mark.parametrize("method", ["fedavg", "permfl"])
@pytest.mark.parametrize("words", [COMPRESSED, ("transport.up=[low_rank,quantise]", "transport.low_rank.rank=2")])
def test_it_learns_all_the_same(method, words):
    records = played(method, "rounds=6", *words)[1]
    assert records[-1].train_loss < records[0].train_loss
    assert records[-1].scores["GM"].loss < records[0].scores["GM"].loss


def test_feedback_makes_up_for_what_is_left_out():
    words = ("rounds=12", "transport.up=[top_k]", "transport.top_k.share=0.01", "partition=iid")
    without = played("fedavg", *words, "transport.feedback=false")[1][-1].scores["GM"].loss
    assert played("fedavg", *words)[1][-1].scores["GM"].loss < 0.95 * without


@pytest.mark.parametrize("feedback", [True, False])
def test_clients_keep_something_only_where_they_owe_it(feedback):
    with Federation(small("fedavg", *HALF, *COMPRESSED, f"transport.feedback={str(feedback).lower()}")) as federation:
        assert federation.world.stateless is not feedback
        list(federation)
        states = federation.rounds.snapshot().clients
    assert states
    for state in states.values():
        assert isinstance(state, Owing) if feedback else state is None
        assert not feedback or len(state.owed) == 2  # weights and biases


@pytest.mark.parametrize("method", ["fedavg", "permfl"])
def test_a_resumed_run_owes_what_it_owed(method, tmp_path):
    words = (
        (*HALF, *COMPRESSED, "rounds=6")
        if method == "permfl"
        else (*COMPRESSED, "rounds=6", "clients.participation=0.25")
    )
    with Federation(small(method, *words)) as federation:
        if method == "fedavg":
            rewind_and_replay(federation, tmp_path)
            return
        federation.run_round()
        saved = federation.save(tmp_path)
        list(federation)
        expected = federation.fingerprint()
        federation.restore(saved)
        list(federation)
        assert federation.fingerprint() == expected


def test_last_models_and_what_is_owed_lie_beside_each_other():
    with Federation(small("fedavg", *HALF, *COMPRESSED, "evaluation.personal=last")) as federation:
        records = list(federation)
        states = federation.rounds.snapshot().clients
        assert all(isinstance(state, Owing) and isinstance(state.state, Kept) for state in states.values())
        assert federation.client_model(next(iter(states))) is not None
    assert "PM" in records[-1].scores


@pytest.mark.parametrize("update", ["model", "change"])
def test_servers_that_do_not_wait_take_coded_uploads(update, tmp_path):
    words = (*BUFFERED, *COMPRESSED, "rounds=6", "delays=classes", f"clients.update={update}", "robust.mean=median")
    resume_in_flight(small("fedavg", *words), tmp_path, 3, lambda snapshot: snapshot.aloft.calls and snapshot.clients)


def test_clients_together_are_coded_as_one_by_one():
    words = (*HALF, "transport.up=[top_k,quantise]", "model=mlp", "model.hidden=[32]", "method.batch_size=600")
    one, other = (played("fedavg", *words, *width)[1] for width in ((), ("training.batch_clients=8",)))
    for left, right in zip(one, other, strict=True):
        assert np.array_equal(left.calls.bytes_up, right.calls.bytes_up)
        assert right.scores["GM"].loss == pytest.approx(left.scores["GM"].loss, rel=1e-2)


HOSTILE = ("attacks.share=0.25", "attacks.kind=scaled", "attacks.factor=5", "robust.mean=trimmed", "robust.share=0.3")


@pytest.mark.slow
@pytest.mark.parametrize("method", [pytest.param("fedavg", marks=pytest.mark.exhaustive), "permfl"])
@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="one per actor", marks=pytest.mark.exhaustive),
        pytest.param(("clients_per_actor=4",), id="packed"),
    ],
)
def test_placement_changes_no_bit(method, words):
    fingerprints = []
    for placement in (("inprocess",), ("ray", *words)):
        runtime, *own = placement
        with Federation(small(method, *COMPRESSED, *HOSTILE, *own, runtime=runtime)) as federation:
            list(federation)
            fingerprints.append(federation.fingerprint())
    assert fingerprints[0] == fingerprints[1]
