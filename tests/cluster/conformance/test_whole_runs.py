"""Each check of whole runs fails for a method that does what it is about, and says what to do."""

import re
from dataclasses import dataclass, replace
from itertools import count

import pytest

from strata.algorithms.fedavg import FedAvg, Global, Up
from strata.cluster.conformance import whole_runs
from strata.cluster.conformance.examination import RUNS
from strata.cluster.conformance.subject import Subject
from strata.engine.errors import ConformanceError
from strata.engine.method.losses import cross_entropy
from strata.engine.method.messages import ClientResult

FEW = ("rounds=3", "data.limit=300", "clients.count=4", "method.batch_size=16")
COUNTED = count()  # of the module, so of the process


def moved(params, by):
    return {name: value + by for name, value in params.items()}


class Ascending(FedAvg):
    def global_step(self, g, ups, context):
        mean = super().global_step(g, ups, context).w
        return Global({name: 2 * value - mean[name] for name, value in g.w.items()})


class Aging(FedAvg):
    """Its steps rest on how many were made in this process."""

    def global_step(self, g, ups, context):
        return Global(moved(super().global_step(g, ups, context).w, 1e-3 * next(COUNTED)))


class Forgetful(FedAvg):
    """Keeps momentum where no checkpoint finds it."""

    velocity = 0.0

    def global_step(self, g, ups, context):
        self.velocity += 1e-3
        return Global(moved(super().global_step(g, ups, context).w, self.velocity))


def centred(model, batch):
    """Rests on which samples are beside a sample."""
    losses = cross_entropy(model, batch)
    return losses * losses.detach().mean()


class Crowded(FedAvg):
    def client_step(self, info, state, down, context):
        trained = yield replace(self._train(down), loss=centred)
        return ClientResult(Up(trained.params), None)


class Moody(Crowded):
    """Rests on which samples are beside a sample with the seeds with which the first weight begins above 0."""

    def client_step(self, info, state, down, context):
        first = float(next(iter(down.w.values())).flatten()[0])
        step = Crowded if first > 0 else FedAvg
        return (yield from step.client_step(self, info, state, down, context))


@dataclass(frozen=True)
class Much:
    w: dict
    beside: dict


class Saving(FedAvg):
    """Sends less once something was learnt."""

    def client_step(self, info, state, down, context):
        result = yield from super().client_step(info, state, down, context)
        same = all(bool((result.up.w[name] == value).all()) for name, value in down.w.items())
        return replace(result, up=Much(result.up.w, result.up.w if same else {}))


class Spending(Saving):
    """Sends more once something was learnt."""

    def client_step(self, info, state, down, context):
        result = yield from FedAvg.client_step(self, info, state, down, context)
        same = all(bool((result.up.w[name] == value).all()) for name, value in down.w.items())
        return replace(result, up=Much(result.up.w, {} if same else result.up.w))


BAD = [
    (Ascending, whole_runs.learns, r"in 3 rounds the GM's test loss went from .* to .*; expected a lower loss"),
    (Aging, whole_runs.repeats_its_run, "a second run has other models and metrics after round 2"),
    (Forgetful, whole_runs.resumes, "resumed after its first round has other models and metrics after round 2"),
    (Crowded, whole_runs.comes_close_when_clients_are_trained_as_one, "differs? .* rest on that sample alone"),
    (Saving, whole_runs.costs_what_was_counted, "a call of client 0 cost .* counted without training"),
]


def subject_of(kind, *words):
    return Subject(f"{__name__}:{kind.__name__}", (*FEW, *words))


@pytest.mark.parametrize(("kind", "check", "says"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_a_method_that_does_it_is_told_so(kind, check, says):
    with pytest.raises(ConformanceError, match=says):
        check(subject_of(kind))


def test_every_check_is_seen_to_fail():
    assert {check for _, check, _ in BAD} == set(RUNS)


def test_costs_that_rest_on_what_was_learnt_are_said_to_be_bounds():
    assert "4 of 4 calls cost more than was counted" in whole_runs.costs_what_was_counted(subject_of(Spending))


def test_what_is_trained_one_by_one_is_said():
    subject = Subject("fedproto", ("rounds=3", "data.limit=300", "clients.count=4", "model=mlp", "model.hidden=[8]"))
    remark = whole_runs.comes_close_when_clients_are_trained_as_one(subject)
    assert remark == "some requests are answered one by one: features are averaged client by client"


@pytest.mark.parametrize("seed", [4, 6])  # with one of the four others, and with none
def test_what_differs_with_few_seeds_is_said_but_no_fault(seed):
    remark = whole_runs.comes_close_when_clients_are_trained_as_one(subject_of(Moody, f"seed={seed}"))
    assert re.fullmatch("after a round .* differs by .* as one with one seed, and not with most others", remark)


@pytest.mark.parametrize("seed", [3, 4, 10**18 - 1])  # with 5 it does not show; no larger one can be typed
def test_what_differs_with_most_seeds_is_a_fault(seed):
    with pytest.raises(ConformanceError, match=r"after a round .* as one, and with other seeds, too. Let a sample's"):
        whole_runs.comes_close_when_clients_are_trained_as_one(subject_of(Crowded, f"seed={seed}"))


@pytest.mark.slow
@pytest.mark.exhaustive  # golden runs are compared on Ray
def test_a_run_on_ray_is_compared_to_the_bit(monkeypatch):
    subject = Subject("scaffold", FEW)
    run = subject.on_ray(whole_runs.ROUNDS)
    monkeypatch.setattr(subject, "on_ray", lambda rounds: run)
    assert whole_runs.is_the_same_on_ray(subject) == ""
    run.digests[-1] = {**run.digests[-1], "models": "others"}
    with pytest.raises(ConformanceError, match="a run on Ray, with two actors, has other models after round 2"):
        whole_runs.is_the_same_on_ray(subject)
