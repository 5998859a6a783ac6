"""The optimisers' arithmetic is torch's own, to the bit, without what torch's own classes import."""

import subprocess
import sys

import pytest
import torch

from strata.engine.method.requests import AdamW, Sgd
from strata.engine.training.descent import Descent, Pulls


def values(seed, lanes=None):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, 3), (4,)] if lanes is None else [(lanes, 7, 3), (lanes, 4)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(
    ("chosen", "theirs"),
    [
        (Sgd(0.1), lambda p: torch.optim.SGD(p, 0.1, foreach=True)),
        (Sgd(0.1, 0.9), lambda p: torch.optim.SGD(p, 0.1, 0.9, foreach=True)),
        (Sgd(0.1, 0.9, 0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, foreach=True)),
        (AdamW(0.01, 0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, foreach=True)),
    ],
)
def test_steps_are_those_of_torch(chosen, theirs):
    ours, other = values(0), [torch.nn.Parameter(value) for value in values(0)]
    descent, optimizer = Descent(chosen, ours), theirs(other)
    for step in range(1, 6):
        gradients = values(step)
        for parameter, gradient in zip(other, gradients, strict=True):
            parameter.grad = gradient.clone()
        if step == 3:  # the loss did not touch the second one
            other[1].grad, gradients[1] = None, None
        descent.step(gradients)
        optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, other, strict=True)), step
    assert not torch.equal(ours[0], values(0)[0])


@pytest.mark.parametrize("chosen", [Sgd(0.1, 0.9, 0.01), AdamW(0.01)])
def test_stacked_clients_step_as_each_by_itself(chosen):
    stacked = values(0, lanes=3)
    single = [[value[lane].clone() for value in stacked] for lane in range(3)]
    together, apart = Descent(chosen, stacked), [Descent(chosen, own) for own in single]
    for step, lanes in enumerate([3, 3, 2, 2, 1]):
        gradients = values(10 + step, lanes=3)
        together.narrow(lanes)
        together.step([gradient[:lanes] for gradient in gradients])
        for lane in range(lanes):
            apart[lane].step([gradient[lane] for gradient in gradients])
    for lane in range(3):
        assert all(torch.equal(value[lane], own) for value, own in zip(stacked, single[lane], strict=True))


def test_without_any_gradient_nothing_moves():
    ours = values(0)
    Descent(Sgd(0.1, 0.9, 0.5), ours).step([None, None])
    assert all(torch.equal(a, b) for a, b in zip(ours, values(0), strict=True))


def test_pulls_add_up_and_leave_alone_what_has_no_gradient():
    theta, gradient = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    pulls = Pulls([([0], [theta], [torch.zeros(2)], 0.5), ([0, 1], [theta, theta], [torch.ones(2)] * 2, 2.0)])
    first, second = pulls.added([gradient, None])
    assert first.tolist() == [10 + 0.5 * 1 + 2 * 0, 20 + 0.5 * 2 + 2 * 1]
    assert second is None
    assert gradient.tolist() == [10.0, 20.0]


def test_training_and_counting_do_not_import_torchs_compiler():
    program = """
        import sys
        from strata.engine.federation import Federation
        from tests.helpers.small import small
        for width in (1, 8):
            words = ("rounds=1", "clients.count=2", "model=cnn", "model.width=0.1", f"training.batch_clients={width}")
            with Federation(small("permfl", *words)) as federation:
                assert next(iter(federation)).flops > 0
        assert "torch.optim" in sys.modules
        assert "torch._dynamo" not in sys.modules
    """
    lines = [line.removeprefix("        ") for line in program.splitlines()]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
