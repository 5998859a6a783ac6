"""Operations that torch's interpreter makes: the same results as Python's, or Python's."""

import sys
import warnings

import pytest
import torch

from strata.engine.training.replay.compiled import compiled

READ = [torch.tensor([[1.0, 2.0], [3.0, float("nan")]])]
OTHER = [torch.tensor([[5.0, -2.0], [0.5, 4.0]])]


def steps(x, moved):
    for rate in (0.5, 0.25):
        torch._foreach_add_([moved], [x.t() @ x], alpha=-rate)
    return (moved.sum(1),)


def changed():
    return [torch.ones(2, 2)]


@pytest.mark.parametrize("read", [READ, OTHER])
def test_it_gives_and_changes_what_the_operation_does(read):
    made = compiled(steps, READ, changed())
    assert made is not steps
    expected, found = changed(), changed()
    (by_python,) = steps(*read, *expected)
    (by_torch,) = made(*read, *found)
    assert by_torch.numpy().tobytes() == by_python.numpy().tobytes()
    assert found[0].numpy().tobytes() == expected[0].numpy().tobytes()


def test_the_operands_that_it_is_tried_on_stay_as_they_are():
    read, moved = [one.clone() for one in OTHER], changed()
    compiled(steps, read, moved)
    assert torch.equal(read[0], OTHER[0])
    assert torch.equal(moved[0], torch.ones(2, 2))


def test_nobody_is_told_that_it_is_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = compiled(steps, OTHER, changed())
        made(*OTHER, *changed())


def test_what_python_alone_can_make_is_left_to_it(monkeypatch):
    calls = []

    def other_each_time(x, moved):
        calls.append(None)
        return (moved * len(calls),)

    def cannot_be_traced(x, moved):
        mask = [True, False, False]
        image = x.view(1, 1, 2, 2)
        made = torch.ops.aten.convolution_backward(
            image, image, moved.view(1, 1, 2, 2)[..., :1, :1], None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask
        )
        return (made[0],)

    assert compiled(other_each_time, OTHER, changed()) is other_each_time
    assert compiled(cannot_be_traced, OTHER, changed()) is cannot_be_traced
    monkeypatch.delattr(torch.jit, "trace")
    assert compiled(steps, OTHER, changed()) is steps


def test_python_has_no_part_in_it():
    def adding(times):
        def operation(x, moved):
            for _ in range(times):
                moved.add_(x)
            return (moved.sum(),)

        return operation

    def calls(operation):
        seen, operands = [], (OTHER[0], *changed())
        sys.setprofile(lambda frame, event, arg: seen.append(event))
        try:
            operation(*operands)
        finally:
            sys.setprofile(None)
        return len(seen)

    assert calls(adding(200)) >= 100 + calls(adding(100))
    few, many = (calls(compiled(adding(times), OTHER, changed())) for times in (100, 200))
    assert few == many
