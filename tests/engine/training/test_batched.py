"""Many clients' requests as one operation: the same answers as one by one, whoever is beside."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from strata.engine.data.dataset import Dataset
from strata.engine.determinism import single_thread
from strata.engine.errors import LossError, TrainingError
from strata.engine.method.length import Length
from strata.engine.method.requests import AdamW, Cosine, Evaluate, Linear, Pull, Represent, Sgd, Train, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import Joint, ModelSpec
from strata.engine.training import batched
from strata.engine.training.batched import Batched
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked, Broken
from strata.engine.tree import fingerprint
from tests.helpers.arithmetic.processor import ANY_ROWS

SHAPE, K, ROWS = (1, 12, 12), 5, 900
RNG = np.random.default_rng(3)
DATA = Dataset("made", RNG.integers(0, 256, (ROWS, *SHAPE), np.uint8), RNG.integers(0, K, ROWS), K)

MCLR = ModelSpec("mclr", SHAPE, K)
MLP = ModelSpec("mlp", SHAPE, K, (("hidden", (24, 16)),))
CNN = ModelSpec("cnn", SHAPE, K, (("depth", 2), ("width", 0.25)))


@pytest.fixture(autouse=True)
def as_the_engine_runs_it():
    with single_thread():
        yield


SIZES = [20, 30, 50, 20, 10]  # whole batches of ten


def ask(model, sizes=SIZES, **changes):
    """A request for training from each client, and one row of it for each of ``sizes``."""
    rng = np.random.default_rng(11)
    asked = []
    for client, size in enumerate(sizes):
        request = Train(model, init_params(model, client), Sgd(0.05), 10, Length(epochs=2))
        rows = rng.choice(ROWS, size, replace=False)
        asked.append(Asked(replace(request, **changes), rows, client, f"client {client}, round 4", Work()))
    return asked


def again(asked):
    return [replace(one, work=Work()) for one in asked]


def answers(trainer, asked):
    asked = again(asked)
    return trainer.answer(asked), [one.work for one in asked]


def to_pull(model, names):
    return {name: value for name, value in init_params(model, 99).items() if name.startswith(names)}


CHANGES = {
    "plain": {},
    "momentum and decay": {"optimizer": Sgd(0.05, 0.9, 0.01)},
    "AdamW": {"optimizer": AdamW(1e-2)},
    "two pulls": {"pull": (Pull(to_pull(MLP, "features"), 0.3), Pull(init_params(MLP, 98), 0.2))},
    "a part": {"trainable": frozenset(name for name in init_params(MLP, 0) if name.startswith("head"))},
    "one batch": {"repeat_batch": True, "length": Length(steps=3)},
    "steps": {"length": Length(steps=7)},
    "a correction": {"correction": to_pull(MLP, "features"), "pull": (Pull(init_params(MLP, 98), 0.2),)},
    "clipped": {"clip_norm": 0.5, "optimizer": Sgd(0.05, 0.9)},
    "a falling rate": {"schedule": Cosine(0.1), "length": Length(steps=7)},
    "a falling rate of AdamW, and all else": {
        "schedule": Linear(1.0, 0.2),
        "optimizer": AdamW(1e-2),
        "correction": to_pull(MLP, "head"),
        "clip_norm": 0.5,
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_dense_models_get_the_bits_that_they_get_one_by_one(change):
    asked = ask(MLP, **change)
    alone, work = answers(Sequential(DATA), asked)
    together, counted = answers(Batched(DATA), asked)
    assert [fingerprint(one) for one in together] == [fingerprint(one) for one in alone]
    assert counted == work
    assert not any(one.singly for one in counted)
    assert all(
        not torch.equal(a.params["head.bias"], one.request.start["head.bias"])
        for a, one in zip(alone, asked, strict=True)
    )


@pytest.mark.parametrize("model", [MCLR, MLP, CNN], ids=lambda model: model.name)
@pytest.mark.parametrize("optimizer", [Sgd(0.05, 0.9, 0.01), AdamW(1e-3)])
def test_clients_of_any_size_come_close_to_what_they_get_one_by_one(model, optimizer):
    asked = ask(model, [17, 3, 50, 1, 28, 9], optimizer=optimizer)
    alone, work = answers(Sequential(DATA), asked)
    together, counted = answers(Batched(DATA), asked)
    for one, other in zip(alone, together, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        for name, value in one.params.items():
            torch.testing.assert_close(other.params[name], value, rtol=1e-4, atol=1e-4)
    assert [(one.flops, one.samples, one.steps) for one in counted] == [(w.flops, w.samples, w.steps) for w in work]


@pytest.mark.parametrize("model", [MLP, CNN], ids=lambda model: model.name)
def test_who_is_beside_never_changes_a_bit(model, monkeypatch):
    asked = ask(model, [17, 3, 50, 1, 28, 9])
    expected = [fingerprint(one) for one in answers(Batched(DATA), asked)[0]]
    lone = [fingerprint(answers(Batched(DATA), [one])[0][0]) for one in asked]
    turned = [fingerprint(one) for one in answers(Batched(DATA), asked[::-1])[0]]
    monkeypatch.setitem(batched.PART_BYTES, "cpu", 4 * 144 * 40)  # forty rows: several parts
    parts = [fingerprint(one) for one in answers(Batched(DATA), asked)[0]]
    assert expected == lone == turned[::-1] == parts
    assert len(set(expected)) == len(expected)


def test_who_is_beside_never_changes_a_bit_of_corrected_clipped_and_slowing_steps():
    asked = [
        replace(one, request=replace(one.request, correction=to_pull(MLP, "head"), clip_norm=0.3, schedule=Cosine()))
        for one in ask(MLP, [17, 3, 50, 1, 28, 9])
    ]
    expected = [fingerprint(one) for one in answers(Batched(DATA), asked)[0]]
    assert [fingerprint(answers(Batched(DATA), [one])[0][0]) for one in asked] == expected
    assert [fingerprint(one) for one in answers(Batched(DATA), asked[::-1])[0]] == expected[::-1]
    assert len(set(expected)) == len(expected)


@dataclass(frozen=True)
class Adagrad:
    lr: float

    def make(self, params):
        return torch.optim.Adagrad(params, self.lr)


def test_an_optimiser_of_ones_own_is_stepped_one_by_one_and_counted():
    asked = ask(MLP, [20, 30], optimizer=Adagrad(0.01), schedule=Linear(1.0, 0.5))
    together, counted = answers(Batched(DATA), asked)
    assert [one.singly for one in counted] == [{"Adagrad is an optimiser of one's own": 1}] * 2
    assert [fingerprint(one) for one in together] == [fingerprint(one) for one in answers(Sequential(DATA), asked)[0]]


def evaluations(model, sizes):
    """What clients with so many rows get one by one, and together, at batches of 32."""
    rng = np.random.default_rng(5)
    rows = [rng.choice(ROWS, size, replace=False) for size in sizes]
    asked = [Asked(Evaluate(model, init_params(model, n)), own, 0, "", Work()) for n, own in enumerate(rows)]
    return [kind(DATA, evaluation_batch=32).answer(asked) for kind in (Sequential, Batched)]


@pytest.mark.parametrize("model", [MCLR, MLP], ids=lambda model: model.name)
@pytest.mark.parametrize("sizes", [[64, 32, 96, 32], pytest.param([40, 7, 100, 12], marks=ANY_ROWS)])
def test_evaluations_are_those_of_one_by_one(model, sizes):
    alone, together = evaluations(model, sizes)
    assert together == alone
    assert sum(one.correct for one in alone) > 0
    assert evaluations(model, [0])[1][0].samples == 0


@pytest.mark.parametrize("model", [MCLR, MLP], ids=lambda model: model.name)
def test_evaluations_of_any_size_come_close_on_every_processor(model):
    alone, together = evaluations(model, [40, 7, 100, 12])
    assert together == [replace(one, loss_sum=pytest.approx(one.loss_sum, rel=1e-6)) for one in alone]


def test_joint_models_and_constants_go_together():
    joint = Joint((("one", MLP), ("other", MCLR)))
    asked = ask(joint, loss=both)
    alone, _ = answers(Sequential(DATA), asked)
    together, counted = answers(Batched(DATA), asked)
    assert [fingerprint(one) for one in together] == [fingerprint(one) for one in alone]
    assert not counted[0].singly


def both(model, batch):
    out = model(batch.x)
    return sum(nn.functional.cross_entropy(logits, batch.y, reduction="none") for logits in out.values())


def test_a_client_that_diverges_is_named_and_leaves_the_others_alone():
    asked = ask(MLP)
    sick = {name: value * 1e30 for name, value in asked[2].request.start.items()}
    asked[2] = replace(asked[2], request=replace(asked[2].request, start=sick))
    made, _ = answers(Batched(DATA), asked)
    assert isinstance(made[2], Broken)
    assert isinstance(made[2].error, TrainingError)
    alone = Sequential(DATA).answer(again(asked)[2:3])[0]
    assert str(made[2].error) == str(alone.error)
    assert "client 2, round 4" in str(alone.error)
    healthy, _ = answers(Sequential(DATA), [asked[0]])
    assert fingerprint(made[0]) == fingerprint(healthy[0])


class Own(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(144), nn.Linear(144, classes)
        self.norm.requires_grad_(False).eval()

    def train(self, mode=True):
        self.head.train(mode)
        self.training = mode
        return self

    def forward(self, x):
        return self.head(self.norm(x.flatten(1)))


class Normed(Own):
    train = nn.Module.train


class Drawing(Own):
    def forward(self, x):
        return self.head(nn.functional.dropout(x.flatten(1), 0.5, self.training))


class Looking(Own):
    def forward(self, x):
        return self.head(x.flatten(1)) * (2 if float(x.sum()) > 0 else 1)


class Reaching(Own):
    def forward(self, x):
        return self.head(x.flatten(1)) + ELSEWHERE


ELSEWHERE = torch.arange(5.0)
SINGLY = {
    Normed: "batch norm",
    Drawing: "torch.func cannot batch it",
    Looking: "torch.func cannot batch it",
    Reaching: "uses a tensor that is neither the model's nor the batch's",
}


@pytest.mark.parametrize("kind", SINGLY)
def test_what_cannot_go_together_is_answered_one_by_one_and_counted(kind):
    model = ModelSpec(f"{__name__}:{kind.__name__}", SHAPE, K)
    asked = ask(model)
    alone, work = answers(Sequential(DATA), asked)
    together, counted = answers(Batched(DATA), asked)
    assert [fingerprint(one) for one in together] == [fingerprint(one) for one in alone]
    for one in counted:
        ((reason, times),) = one.singly.items()
        assert SINGLY[kind] in reason
        assert times == 1
    assert [one.flops for one in counted] == [one.flops for one in work]


def test_a_frozen_batch_norm_goes_together():
    model = ModelSpec(f"{__name__}:Normed", SHAPE, K)
    asked = ask(model, frozen=("norm",))
    alone, _ = answers(Sequential(DATA), asked)
    together, counted = answers(Batched(DATA), asked)
    assert not counted[0].singly
    for one, other in zip(alone, together, strict=True):
        for name, value in one.params.items():
            torch.testing.assert_close(other.params[name], value, rtol=1e-5, atol=1e-6)


def test_features_are_averaged_one_by_one():
    asked = [Asked(Represent(MLP, init_params(MLP, 0)), np.arange(40), 0, "", Work())]
    (made,), (work,) = answers(Batched(DATA), asked)
    assert fingerprint(made) == fingerprint(Sequential(DATA).answer(asked)[0])
    assert list(work.singly.values()) == [1]


def test_a_parameter_that_the_loss_does_not_touch_stays_as_it_is():
    model = ModelSpec(f"{__name__}:Half", SHAPE, K)
    asked = ask(model, optimizer=Sgd(0.1, 0.9, 0.5), pull=(Pull(init_params(model, 9), 1.0),))
    together, counted = answers(Batched(DATA), asked)
    assert not counted[0].singly
    for one, answer in zip(asked, together, strict=True):
        assert torch.equal(answer.params["unused.weight"], one.request.start["unused.weight"])
        assert not torch.equal(answer.params["used.weight"], one.request.start["used.weight"])


class Shifting(Own):
    """Changes its inputs in place."""

    def forward(self, x):
        x = x.flatten(1)
        x.sub_(0.3)
        return self.head(x)


class Counting(Own):
    """Changes a buffer of its own in place."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.register_buffer("seen", torch.zeros(144))

    def forward(self, x):
        self.seen.add_(1)
        return self.head(x.flatten(1))


@pytest.mark.parametrize("kind", [Shifting, Counting])
@pytest.mark.parametrize("length", [Length(steps=2), Length(epochs=1)])  # rows in their order, and by index
def test_what_a_model_changes_in_place_is_changed_once_a_step(kind, length):
    model = ModelSpec(f"{__name__}:{kind.__name__}", SHAPE, K)
    asked = ask(model, length=length)
    alone, _ = answers(Sequential(DATA), asked)
    together, counted = answers(Batched(DATA), asked)
    assert all(reason.startswith("it changes its buffers") for reason in counted[0].singly)
    assert bool(counted[0].singly) == (kind is Counting)
    for one, other in zip(alone, together, strict=True):
        for name, value in one.params.items():
            torch.testing.assert_close(other.params[name], value, rtol=1e-5, atol=1e-6)


def test_a_loss_that_breaks_and_parameters_that_are_missing_are_said_as_one_by_one():
    asked = ask(MLP, loss=lambda model, batch: model(batch.x).sum())
    for made, expected in zip(answers(Batched(DATA), asked)[0], answers(Sequential(DATA), asked)[0], strict=True):
        assert isinstance(made.error, LossError)
        assert str(made.error) == str(expected.error)
    few = {"head.bias": torch.zeros(K)}
    for request in (replace(asked[0].request, start=few), Evaluate(MLP, few)):
        with pytest.raises(ValueError, match="parameters are missing for the model: features"):
            Batched(DATA).answer([replace(asked[0], request=request)])


class Half(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.used, self.unused = nn.Linear(144, classes), nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x.flatten(1))


@pytest.mark.parametrize("steps", [1, 5, 7, 8, 9, 20, 127, 128, 129, 300])
def test_losses_of_many_clients_are_added_up_as_those_of_one(steps):
    losses_SN = np.random.default_rng(steps).random((steps, 6)) * 10 ** np.random.default_rng(1).uniform(-6, 6, 6)
    alone = [float(losses_SN[:, lane].copy().sum()) for lane in range(6)]
    assert batched._sums(losses_SN, [steps] * 6) == alone
    fewer = [steps, steps, steps, max(1, steps // 2), 1, 1]
    cut = [float(losses_SN[:count, lane].copy().sum()) for lane, count in enumerate(fewer)]
    assert batched._sums(losses_SN, fewer) == cut
