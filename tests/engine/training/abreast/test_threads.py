"""Blocks of lanes on the threads of a process: how they are cut, and that no bit rests on it."""

import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from strata.engine.data.dataset import Dataset
from strata.engine.determinism import single_thread
from strata.engine.method.length import Length
from strata.engine.method.requests import AdamW, Evaluate, Gradient, Pull, Sgd, Train, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.abreast import threads as module
from strata.engine.training.abreast.threads import CACHE_BYTES, WORTH, WORTH_FLOPS, Threads
from strata.engine.training.batched import Batched
from strata.engine.training.trainer import Asked, Broken
from strata.engine.tree import fingerprint

RNG = np.random.default_rng(5)
DATA = Dataset("made", RNG.integers(0, 256, (600, 1, 12, 12), np.uint8), RNG.integers(0, 5, 600), 5)
MODELS = {
    "mclr": ModelSpec("mclr", (1, 12, 12), 5),
    "mlp": ModelSpec("mlp", (1, 12, 12), 5, (("hidden", (24,)),)),
    "cnn": ModelSpec("cnn", (1, 12, 12), 5, (("depth", 2), ("width", 0.25))),
}
SIZES = [17, 3, 50, 1, 28, 9, 40, 40, 40, 12, 30, 8, 50]


def sizes_of(blocks):
    return [block.stop - block.start for block in blocks]


def test_all_threads_get_blocks_of_like_size_however_many_lanes_there_are():
    for threads in (1, 2, 3, 8):
        for lanes in (2, 3, 7, 40, 41, 100):
            blocks = Threads(threads).blocks(lanes, 1, lambda: WORTH_FLOPS)
            assert [place for block in blocks for place in range(lanes)[block]] == list(range(lanes))
            assert len(blocks) == min(threads, lanes // 2)
            assert max(sizes_of(blocks)) - min(sizes_of(blocks)) <= 1
            assert min(sizes_of(blocks)) >= 2


def test_a_block_holds_no_more_lanes_than_stay_in_the_cache_but_enough_to_be_worth_its_steps():
    assert sizes_of(Threads(1).blocks(64, CACHE_BYTES // 16, lambda: WORTH_FLOPS)) == [16] * 4
    assert sizes_of(Threads(3).blocks(96, CACHE_BYTES // 16, lambda: WORTH_FLOPS)) == [16] * 6
    assert sizes_of(Threads(3).blocks(64, CACHE_BYTES // 16, lambda: WORTH_FLOPS)) == [10, 11, 11, 10, 11, 11]
    assert sizes_of(Threads(1).blocks(64, CACHE_BYTES, lambda: WORTH_FLOPS)) == [WORTH] * 8


def test_no_more_threads_are_at_work_than_have_enough_to_do():
    for share, blocks in ((64, 1), (33, 1), (32, 2), (22, 2), (21, 3), (1, 8)):
        assert len(Threads(8).blocks(64, 1, lambda share=share: WORTH_FLOPS // share)) == blocks


def test_blocks_are_computed_side_by_side_and_given_in_their_order():
    both, threads = threading.Barrier(2, timeout=30), Threads(2)

    def compute(block):
        both.wait()  # nobody passes alone
        return block.start, threading.current_thread() is threading.main_thread(), torch.get_num_threads()

    starts, by_main, torch_threads = zip(*threads.map(compute, [slice(0, 2), slice(2, 4)]), strict=True)
    assert starts == (0, 2)
    assert sorted(by_main) == [False, True]  # whoever asks computes too
    assert torch_threads == (1, 1)


def test_all_blocks_are_computed_whichever_breaks():
    done = []

    def compute(block):
        done.append(block.start)
        raise KeyError(block.start)

    with pytest.raises(KeyError, match=r"^0$"):
        Threads(2).map(compute, [slice(start, start + 2) for start in range(0, 10, 2)])
    assert sorted(done) == [0, 2, 4, 6, 8]


def test_the_error_of_a_block_is_raised():
    with pytest.raises(ZeroDivisionError):
        Threads(2).map(lambda block: 1 // (block.start - 2), [slice(0, 2), slice(2, 4)])


@pytest.fixture
def trainer(monkeypatch):
    """A trainer made where torch has so many threads, as a process starts it; all of them are worth it."""
    monkeypatch.setattr(module, "WORTH_FLOPS", 1)
    before = torch.get_num_threads()

    def make(threads):
        torch.set_num_threads(threads)
        return Batched(DATA)

    yield make
    torch.set_num_threads(before)


def asked(request, model):
    rng = np.random.default_rng(11)
    for client, size in enumerate(SIZES):
        own = replace(
            request, **{name: init_params(model, client) for name in ("start", "params") if name in vars(request)}
        )
        yield Asked(own, rng.choice(600, size, replace=False), client, f"client {client}, round 4", Work())


REQUESTS = {
    "descent": lambda model: Train(model, {}, Sgd(0.05, 0.9, 0.01), 10, Length(epochs=2)),
    "a pull, AdamW": lambda model: Train(
        model, {}, AdamW(1e-2), 10, Length(epochs=2), pull=(Pull(init_params(model, 99), 0.3),)
    ),
    "looking ahead": lambda model: Train(model, {}, Sgd(0.05), 10, Length(steps=7), look_ahead=0.1),
    "a gradient": lambda model: Gradient(model, {}),
    "an evaluation": lambda model: Evaluate(model, {}, pairs=True),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_no_bit_rests_on_the_threads(trainer, model, request_):
    found = []
    for threads in (1, 2, 4):
        answering = trainer(threads)
        with single_thread():
            whole = list(asked(request_(model), model))
            answers = answering.answer(whole)
        found.append([fingerprint(one) for one in (*answers, *(one.work for one in whole))])
    assert found[0] == found[1] == found[2]
    assert len(set(found[0][: len(SIZES)])) > len(SIZES) // 2


def test_a_client_that_breaks_is_named_whichever_thread_it_is_on(trainer):
    model = MODELS["mclr"]
    whole = list(asked(Train(model, {}, Sgd(0.05), 10, Length(steps=7)), model))
    broken = {name: torch.full_like(value, torch.nan) for name, value in whole[8].request.start.items()}
    whole[8] = replace(whole[8], request=replace(whole[8].request, start=broken))
    answering = trainer(3)
    with single_thread():
        answers = answering.answer(whole)
    assert [place for place, answer in enumerate(answers) if isinstance(answer, Broken)] == [8]
    assert str(answers[8].error) == (
        "client 8, round 4: loss is nan after step 1. Lower the learning rate or the pull."
    )


class Parts(nn.Module):
    """A model that losses call in their own way."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(144, 5), nn.Linear(144, 5)])

    def forward(self, x, which):
        return self.layers[which](x.flatten(1))


@dataclass(frozen=True)
class PartsSpec:
    def build(self):
        return Parts()


def second_part(model, batch):
    return functional.cross_entropy(model(batch.x, 1), batch.y, reduction="none")


@pytest.mark.parametrize(
    "request_", [Train(PartsSpec(), {}, Sgd(0.05), 10, Length(steps=3)), Gradient(PartsSpec(), {})]
)
def test_a_model_is_only_called_as_its_loss_calls_it(trainer, request_):
    answering = trainer(2)
    with single_thread():
        answers = answering.answer(list(asked(replace(request_, loss=second_part), PartsSpec())))
    assert not any(isinstance(answer, Broken) for answer in answers)


class Accuracy:
    """A metric with a state, as those of torchmetrics have one."""

    def __call__(self, outputs, targets):
        self.seen, self.right = 0, 0
        for output, target in zip(outputs, targets, strict=True):
            time.sleep(0)  # lets another thread in
            self.seen, self.right = self.seen + 1, self.right + int(output.argmax() == target)
        return self.right / self.seen


def test_metrics_of_a_users_own_are_computed_client_after_client(trainer):
    metric, model = Accuracy(), MODELS["mclr"]
    answering = trainer(4)
    with single_thread():
        answers = answering.answer(list(asked(Evaluate(model, {}, further=(("own", metric),)), model)))
    assert [answer.further["own"] for answer in answers] == [answer.correct / answer.samples for answer in answers]
