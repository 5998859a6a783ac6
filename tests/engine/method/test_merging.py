"""Uploads as one: what is merged and what is not, and that it is the same to the bit."""

import dataclasses

import pytest
import torch
from torch import Tensor

from strata.algorithms.fedavg import FedAvg
from strata.engine.build import build_world
from strata.engine.errors import TrainingError
from strata.engine.method.merging import Share, outline_of, shares, whole
from strata.engine.method.messages import Received
from strata.engine.params import weighted_mean
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.server import serve
from strata.engine.rounds.team import LocalTeams
from strata.engine.runtime.inprocess import InProcess
from strata.engine.tree import fingerprint
from tests.helpers.small import small


@dataclasses.dataclass(frozen=True)
class Up:
    w: dict[str, Tensor]
    extra: Tensor | None = None


def up(seed, **changes):
    drawn = torch.Generator().manual_seed(seed)
    w = {"a": torch.randn(3, 2, generator=drawn), "b": torch.randn((), generator=drawn)}
    return dataclasses.replace(Up(w), **changes)


def received(messages, samples):
    return [Received(number, n, m) for number, (m, n) in enumerate(zip(messages, samples, strict=True))]


@pytest.mark.parametrize("split", [(5,), (2, 3), (4, 1), (1, 2, 2)])
def test_the_mean_of_parts_is_that_of_all(split):
    messages, samples = [up(seed) for seed in range(5)], [3, 10, 7, 1, 50]
    sent, first = [], 0
    for size in split:
        sent += shares(messages[first : first + size], samples[first : first + size])
        first += size
    (one,) = whole(received(sent, samples), "samples")
    mean = weighted_mean([message.w for message in messages], samples)
    assert (one.uploads, one.samples) == (5, 71)
    assert fingerprint(one.message) == fingerprint(Up(mean))


def test_what_counts_evenly_does_not_weigh():
    messages = [up(seed) for seed in range(3)]
    (one,) = whole(received(shares(messages, [1, 1, 1]), [3, 10, 7]), "evenly")
    assert fingerprint(one.message) == fingerprint(Up(weighted_mean([message.w for message in messages], [1, 1, 1])))


@pytest.mark.parametrize(
    "other",
    [
        up(1, w={"a": torch.ones(2, 2), "b": torch.ones(())}),
        up(1, w=dict(reversed(up(1).w.items()))),
        up(1, extra=torch.ones(1)),
        up(1, w={"a": torch.ones(3, 2, dtype=torch.float64), "b": torch.ones(())}),
        up(1, w={"a": torch.full((3, 2), torch.nan), "b": torch.ones(())}),
    ],
    ids=["shape", "order", "field", "type", "not finite"],
)
def test_what_is_not_alike_or_not_finite_travels_one_by_one(other):
    messages = [up(0), other]
    assert shares(messages, [1, 1]) is messages
    assert whole(given := received(messages, [1, 1]), "evenly") is given


def test_one_alone_is_not_merged():
    messages = [up(0)]
    assert shares(messages, [1]) is messages
    assert outline_of(messages[0]) is messages[0]


def test_parts_that_differ_are_refused_by_their_senders():
    one, other = (
        shares([up(0), up(1)], [1, 1]),
        shares([up(2, extra=torch.ones(1)), up(3, extra=torch.ones(1))], [1, 1]),
    )
    assert isinstance(one[1], Share)
    with pytest.raises(TrainingError, match="uploads of clients 0 and 2 differ in what they hold: expected float32"):
        whole(received([*one, *other], [1] * 4), "evenly")


class Spread:
    """Clients in several hosts, each of which answers as an actor does."""

    def __init__(self, world, hosts):
        self._hosts = [ClientHost(world, "cpu") for _ in range(hosts)]

    def submit(self, calls):
        return calls

    def results(self, tickets):
        for number, host in reversed(list(enumerate(self._hosts))):  # in another order than they were asked
            yield from host.run([call for call in tickets if call.client % len(self._hosts) == number])

    def states(self, clients, since):
        return {client: state for host in self._hosts for client, state in host.states(clients, since).items()}


def spread(world, hosts):
    clients = Spread(world, hosts)
    return serve(world, clients, LocalTeams(world, clients, world.data.teams) if world.data.teams else None)


METHODS = ("fedavg", "scaffold", "hsgd", "lg_fedavg")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hosts", [1, 3])
def test_merged_rounds_are_the_unmerged_ones_to_the_bit(method, hosts):
    world = build_world(small(method, "clients.participation=1", "delays=pareto", "delays.dropout=0.2"))
    assert world.merges == type(world.algorithm).merges
    assert world.merges
    alone, merged = InProcess(world, "cpu").rounds, spread(world, hosts)
    for _ in range(2):
        assert alone.run_round().calls == merged.run_round().calls
    assert fingerprint(alone.snapshot()) == fingerprint(merged.snapshot())


def test_uploads_really_arrive_merged(monkeypatch):
    seen = []
    step = FedAvg.global_step
    monkeypatch.setattr(
        FedAvg, "global_step", lambda self, g, ups, context: seen.append(ups) or step(self, g, ups, context)
    )
    world = build_world(small("fedavg", "clients.participation=1"))
    outcome = spread(world, 2).run_round()
    assert [one.uploads for one in seen[0]] == [8]
    assert outcome.counted == 8


@pytest.mark.parametrize(
    "word",
    ["clients.mode=deadline clients.deadline_s=1000", "robust.mean=median", "clients.mode=async clients.buffer=8"],
)
def test_servers_that_choose_among_uploads_get_them_one_by_one(word):
    assert build_world(small("fedavg", *word.split())).merges is None


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda t: t * float("nan"), r"client 2, round 1: its upload's \.w\[.*\] is not finite"),
        (lambda t: t[:1], r"client 2, round 1: its upload's w\..* has the shape \(1.*expected \(10"),
    ],
    ids=["not finite", "another shape"],
)
def test_a_sender_is_named_though_uploads_are_merged(monkeypatch, tamper, says):
    step = FedAvg.client_step

    def tampered(self, info, *rest):
        result = yield from step(self, info, *rest)
        if info.id != 2:
            return result
        w = {name: tamper(value) for name, value in result.up.w.items()}
        return dataclasses.replace(result, up=dataclasses.replace(result.up, w=w))

    monkeypatch.setattr(FedAvg, "client_step", tampered)
    world = build_world(small("fedavg", "clients.participation=1"))
    with pytest.raises(TrainingError, match=says):
        spread(world, 2).run_round()


def test_a_shape_that_all_got_wrong_is_named_too(monkeypatch):
    step = FedAvg.client_step

    def cut(self, info, *rest):
        result = yield from step(self, info, *rest)
        w = {name: value[:1] for name, value in result.up.w.items()}
        return dataclasses.replace(result, up=dataclasses.replace(result.up, w=w))

    monkeypatch.setattr(FedAvg, "client_step", cut)
    world = build_world(small("fedavg", "clients.participation=1"))
    with pytest.raises(TrainingError, match=r"its upload's w\..* has the shape \(1.*expected \(10"):
        spread(world, 2).run_round()
