"""Linear models in their dual form: what the primal form gives, but for rounding, whoever is beside."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from strata.engine.data.dataset import Dataset
from strata.engine.determinism import single_thread
from strata.engine.errors import TrainingError
from strata.engine.method.length import Length
from strata.engine.method.losses import SmoothedCrossEntropy, cross_entropy
from strata.engine.method.requests import AdamW, Cosine, Pull, Sgd, Train, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training import batched
from strata.engine.training.abreast import duals, threads
from strata.engine.training.abreast.duals import Duals, filled, linear
from strata.engine.training.batched import Batched
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked, Broken
from strata.engine.tree import fingerprint

SHAPE, K, ROWS = (1, 12, 12), 5, 900
RNG = np.random.default_rng(3)
DATA = Dataset("made", RNG.integers(0, 256, (ROWS, *SHAPE), np.uint8), RNG.integers(0, K, ROWS), K)
FRACTIONS = Dataset("made", RNG.normal(size=(ROWS, 144)).astype(np.float32), DATA.y, K)
MCLR = ModelSpec("mclr", SHAPE, K)
SIZES = [17, 3, 50, 1, 28, 9, 144, 64]


@dataclass(frozen=True)
class NoBias:
    def build(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(144, K, bias=False))


@pytest.fixture(autouse=True)
def as_the_engine_runs_it():
    with single_thread():
        yield


def ask(model=MCLR, sizes=SIZES, **changes):
    rng = np.random.default_rng(11)
    asked = []
    for client, size in enumerate(sizes):
        request = Train(model, init_params(model, client), Sgd(0.05), 10, Length(epochs=3))
        rows = rng.choice(ROWS, size, replace=False)
        asked.append(Asked(replace(request, **changes), rows, client, f"client {client}, round 4", Work()))
    return asked


def answers(trainer, asked):
    asked = [replace(one, work=Work()) for one in asked]
    return trainer.answer(asked), [one.work for one in asked]


def to(seed, model=MCLR):
    return init_params(model, seed)


def pulled_home(asked):
    """Two pulls, of which one leads to where its client starts, as a team's does."""
    pulls = [(Pull(one.request.start, 0.5), Pull(to(98), 0.2)) for one in asked]
    return [replace(one, request=replace(one.request, pull=pull)) for one, pull in zip(asked, pulls, strict=True)]


PLAIN = {
    "plain": {},
    "decay": {"optimizer": Sgd(0.05, weight_decay=0.1)},
    "two pulls": {"pull": (Pull(to(99), 0.3), Pull(to(98), 0.2)), "optimizer": Sgd(0.05, weight_decay=0.1)},
    "one batch again and again": {"repeat_batch": True, "length": Length(steps=30)},
    "steps": {"length": Length(steps=40)},
    "its loss by name": {"loss": cross_entropy},
}


@pytest.fixture
def descents(monkeypatch):
    """How many lanes were trained in their dual form, call by call."""
    seen = []
    descend = Duals.descend

    def counted(self, requests, *rest):
        seen.append(len(requests))
        return descend(self, requests, *rest)

    monkeypatch.setattr(Duals, "descend", counted)
    return seen


def require_close(made, wanted):
    for one, other in zip(made, wanted, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.steps == other.steps
        for name, value in other.params.items():
            torch.testing.assert_close(one.params[name], value, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("data", [DATA, FRACTIONS], ids=["pictures", "fractions"])
@pytest.mark.parametrize("change", PLAIN.values(), ids=PLAIN)
def test_it_gives_what_the_primal_form_gives_but_for_rounding(change, data, descents):
    model = MCLR if data is DATA else ModelSpec("mclr", (144,), K)
    asked = ask(model, **change)
    alone, work = answers(Sequential(data), asked)
    made, counted = answers(Batched(data, dual=True), asked)
    assert sum(descents) >= len(asked)
    require_close(made, alone)
    assert [(w.flops, w.samples, w.steps) for w in counted] == [(w.flops, w.samples, w.steps) for w in work]
    assert max(one.loss for one in made) > 0


def test_a_pull_home_and_one_elsewhere(descents):
    asked = pulled_home(ask())
    require_close(answers(Batched(DATA, dual=True), asked)[0], answers(Sequential(DATA), asked)[0])
    assert descents


def test_clients_with_fewer_steps_beside_those_with_more(descents):
    asked = ask(sizes=[64, 58, 61], **PLAIN["two pulls"])
    made, work = answers(Batched(DATA, dual=True), asked)
    assert descents == [3]
    assert [one.steps for one in work] == [21, 18, 21]
    require_close(made, answers(Sequential(DATA), asked)[0])


def test_a_layer_without_a_bias(descents):
    asked = ask(NoBias())
    require_close(answers(Batched(DATA, dual=True), asked)[0], answers(Sequential(DATA), asked)[0])
    assert descents


@pytest.mark.parametrize("change", ["plain", "two pulls"])
def test_who_is_beside_never_changes_a_bit(change, monkeypatch):
    asked = ask(**PLAIN[change])
    trainer = Batched(DATA, dual=True)
    expected = [fingerprint(one) for one in answers(trainer, asked)[0]]
    again = [fingerprint(one) for one in answers(trainer, asked)[0]]  # from what is kept
    lone = [fingerprint(answers(Batched(DATA, dual=True), [one])[0][0]) for one in asked]
    turned = [fingerprint(one) for one in answers(Batched(DATA, dual=True), asked[::-1])[0]]
    monkeypatch.setitem(batched.PART_BYTES, "cpu", 4 * 144 * 40)
    monkeypatch.setattr(duals, "KEPT_BYTES", 1)  # nothing is kept
    parts = [fingerprint(one) for one in answers(Batched(DATA, dual=True), asked)[0]]
    assert expected == again == lone == turned[::-1] == parts
    assert len(set(expected)) == len(expected)


def test_where_samples_lie_never_changes_a_bit():
    odd = Dataset("odd", DATA.x.reshape(ROWS, -1)[:, :91].copy(), DATA.y, K)
    asked = ask(ModelSpec("mclr", (91,), K), sizes=[17, 3, 50, 1, 28, 9, 91, 64])
    expected = [fingerprint(one) for one in answers(Batched(odd, dual=True), asked)[0]]
    lone = [fingerprint(answers(Batched(odd, dual=True), [one])[0][0]) for one in asked]
    turned = [fingerprint(one) for one in answers(Batched(odd, dual=True), asked[::-1])[0]]
    assert expected == lone == turned[::-1]


def test_a_client_that_is_pulled_home_does_not_care_whether_another_is():
    asked = ask(sizes=[30, 30, 30])
    home = pulled_home(asked)
    away = [replace(one, request=replace(one.request, pull=(Pull(to(7), 0.5), Pull(to(98), 0.2)))) for one in asked]
    mixed = [home[0], away[1], home[2]]
    expected = [fingerprint(answers(Batched(DATA, dual=True), [one])[0][0]) for one in mixed]
    assert [fingerprint(one) for one in answers(Batched(DATA, dual=True), mixed)[0]] == expected
    require_close(answers(Batched(DATA, dual=True), mixed)[0], answers(Sequential(DATA), mixed)[0])


def test_threads_never_change_a_bit(monkeypatch):
    asked = ask(sizes=[57, 58, 64, 61, 60, 59, 64, 62, 63])
    expected = [fingerprint(one) for one in answers(Batched(DATA, dual=True), asked)[0]]
    monkeypatch.setattr(threads, "WORTH_FLOPS", 1)
    torch.set_num_threads(3)
    cut = []
    found = threads.Threads.blocks
    monkeypatch.setattr(threads.Threads, "blocks", lambda *a: cut.append(found(*a)) or cut[-1])
    assert [fingerprint(one) for one in answers(Batched(DATA, dual=True), asked)[0]] == expected
    assert max(map(len, cut)) == 3


OTHERWISE = {
    "momentum": {"optimizer": Sgd(0.05, 0.9)},
    "AdamW": {"optimizer": AdamW(1e-2)},
    "a correction": {"correction": to(97)},
    "clipped": {"clip_norm": 0.5},
    "a falling rate": {"schedule": Cosine(0.1)},
    "a look ahead": {"look_ahead": 0.01},
    "a part of it": {"trainable": frozenset(["head.bias"])},
    "a pull of a part": {"pull": (Pull({"head.bias": to(97)["head.bias"]}, 0.2),)},
    "another loss": {"loss": SmoothedCrossEntropy(0.1)},
    "samples seen once": {"length": Length(epochs=1)},
    "a network": {"model": ModelSpec("mlp", SHAPE, K, (("hidden", (24,)),))},
}


@pytest.mark.parametrize("change", OTHERWISE.values(), ids=OTHERWISE)
def test_what_it_cannot_do_or_costs_more_is_done_in_the_primal_form(change, descents):
    asked = ask(change.get("model", MCLR), **{key: value for key, value in change.items() if key != "model"})
    expected = [fingerprint(one) for one in answers(Batched(DATA), asked)[0]]
    assert [fingerprint(one) for one in answers(Batched(DATA, dual=True), asked)[0]] == expected
    assert not descents


def test_clients_with_more_samples_than_inputs_are_trained_in_the_primal_form(descents):
    asked = ask(sizes=[144, 145, 300])
    expected = [fingerprint(one) for one in answers(Batched(DATA), asked)[0]]
    made = [fingerprint(one) for one in answers(Batched(DATA, dual=True), asked)[0]]
    assert made[1:] == expected[1:]
    assert made[0] != expected[0]
    assert descents == [2]  # a lone one is computed twice


def test_targets_that_are_no_classes_are_trained_in_the_primal_form(descents):
    numbers = Dataset("made", DATA.x, RNG.normal(size=(ROWS, K)).astype(np.float32), K, task="regression")
    asked = ask()
    expected = [fingerprint(one) for one in answers(Batched(numbers), asked)[0]]
    assert [fingerprint(one) for one in answers(Batched(numbers, dual=True), asked)[0]] == expected
    assert not descents


def test_what_is_not_finite_breaks_the_client_alone_and_names_it():
    asked = ask(sizes=[30, 31, 32])
    wild = replace(asked[1].request, start={n: v * torch.inf for n, v in asked[1].request.start.items()})
    asked[1] = replace(asked[1], request=wild)
    made, _ = answers(Batched(DATA, dual=True), asked)
    assert isinstance(made[1], Broken)
    assert isinstance(made[1].error, TrainingError)
    assert str(made[1].error).startswith("client 1, round 4: loss is nan after step 1.")
    expected, _ = answers(Sequential(DATA), [asked[0], asked[2]])
    require_close([made[0], made[2]], expected)


def test_steps_that_run_away_are_named():
    asked = ask(sizes=[30, 31], optimizer=Sgd(1e3), pull=(Pull(to(99), 1e3),), length=Length(steps=20))
    made, _ = answers(Batched(DATA, dual=True), asked)
    assert all(isinstance(one, Broken) and "after step" in str(one.error) for one in made)


@pytest.mark.parametrize(
    ("n", "most", "samples"), [(1, 144, 1), (3, 144, 3), (9, 144, 10), (50, 784, 56), (57, 784, 64), (140, 144, 144)]
)
def test_a_client_is_filled_up_by_a_quarter_at_most(n, most, samples):
    assert filled(n, most) == samples


class Bent(nn.Module):
    """Holds one layer, and makes something else of it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(144, K)

    def forward(self, x):
        return self.layer(x.flatten(1)).relu()


def frozen(layer):
    layer.bias.requires_grad_(False)
    return layer


def test_which_modules_are_linear():
    assert linear(nn.Linear(3, 2))[0] == ""
    assert linear(nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(3, 2)))[0] == "2"
    assert linear(MCLR.build())[0] == "head"
    for other in (
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)),
        nn.Sequential(nn.Dropout(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        nn.Sequential(nn.Flatten(2), nn.Linear(3, 2)),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
        nn.utils.spectral_norm(nn.Linear(3, 2)),
        frozen(nn.Linear(3, 2)),
        nn.Flatten(),
        Bent(),
    ):
        assert linear(other) is None
