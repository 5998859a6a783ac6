"""Descents without Python: compiled once they have come often enough, to the bit what they were before."""

import pytest
import torch

from strata.engine.determinism import single_thread
from strata.engine.method.length import Length
from strata.engine.training import stacked
from strata.engine.training.batched import Batched
from strata.engine.training.sequential import Sequential
from strata.engine.tree import fingerprint
from tests.engine.training.test_batched import CHANGES, CNN, DATA, MLP, SIZES, again, answers, ask

STEPS = {"length": Length(steps=7)}


@pytest.fixture(autouse=True)
def as_the_engine_runs_it():
    with single_thread():
        yield


@pytest.fixture
def found(monkeypatch):
    """What came of each attempt to compile: whether it did."""
    monkeypatch.setattr(stacked, "WORTH_COMPILING", 1)
    compiled, attempts = stacked.compiled, []

    def noted(operation, read, changed):
        made = compiled(operation, read, changed)
        attempts.append(made is not operation)
        return made

    monkeypatch.setattr(stacked, "compiled", noted)
    return attempts


def prints(made):
    return [fingerprint(one) for one in made]


@pytest.mark.parametrize("change", [*CHANGES.values(), {"look_ahead": 0.1}], ids=[*CHANGES, "looking ahead"])
def test_compiled_descents_give_the_bits_of_one_by_one(found, change):
    asked = ask(MLP, **{**STEPS, **change})
    expected = prints(answers(Sequential(DATA), asked)[0])
    trainer = Batched(DATA)
    assert [prints(answers(trainer, asked)[0]) == expected for _ in range(4)] == [True] * 4
    assert found == [True]
    others = ask(MLP, [40, 30, 20, 50, 20], **{**STEPS, **change})
    assert prints(answers(trainer, others)[0]) == prints(answers(Sequential(DATA), others)[0])
    assert found == [True]


def test_what_is_compiled_for_one_request_is_not_taken_for_another(found):
    trainer = Batched(DATA)
    for change in CHANGES.values():
        asked = ask(MLP, **{**STEPS, **change})
        expected = prints(answers(Sequential(DATA), asked)[0])
        assert [prints(answers(trainer, asked)[0]) == expected for _ in range(3)] == [True] * 3
    assert found == [True] * (len(CHANGES) - 1)  # two of them are the same here


def test_a_step_that_breaks_is_named_as_before(found):
    asked, trainer = ask(MLP, **STEPS), Batched(DATA)
    for _ in range(3):
        trainer.answer(again(asked))
    assert found == [True]
    for value in asked[2].request.start.values():
        value.fill_(torch.nan)
    broken = trainer.answer(again(asked))[2]
    assert str(broken.error) == "client 2, round 4: loss is nan after step 1. Lower the learning rate or the pull."


def test_what_cannot_be_compiled_is_tried_once(found):
    asked, trainer = ask(CNN, **STEPS), Batched(DATA)
    expected = prints(answers(trainer, asked)[0])
    assert [prints(answers(trainer, asked)[0]) == expected for _ in range(4)] == [True] * 4
    answers(trainer, asked[:4])
    answers(trainer, asked[:4])
    assert found == [False]


@pytest.mark.parametrize("change", [{"length": Length(epochs=2)}, {"length": Length(steps=7), "sizes": [200] * 5}])
def test_descents_that_end_apart_or_see_samples_once_are_not_compiled(found, change):
    asked, trainer = ask(MLP, **change), Batched(DATA)
    for _ in range(3):
        trainer.answer(again(asked))
        trainer._rows._ready = None  # as of a set that is too large
    assert found == []


def test_no_more_steps_are_compiled_than_there_is_room_for(found, monkeypatch):
    monkeypatch.setattr(stacked, "STEPS_COMPILED", 13)  # seven, and no other seven
    first, other, trainer = ask(MLP, **STEPS), ask(MLP, SIZES[:4], **STEPS), Batched(DATA)
    expected = prints(answers(Sequential(DATA), first)[0])
    for _ in range(4):
        assert prints(answers(trainer, first)[0]) == expected
        assert prints(answers(trainer, other)[0]) == expected[:4]
    assert found == [True]
