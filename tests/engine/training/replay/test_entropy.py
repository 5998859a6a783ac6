"""Cross-entropy in operations that vmap has a rule for: torch's own bits, and none of its detour."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from strata.engine.training.replay.entropy import Entropy
from tests.helpers.small import small_overrides

SHAPES = [(10, 10), (32, 10), (7, 3), (124, 10), (1, 2)]


def drawn(rows, classes, lanes=3):
    draws = torch.Generator().manual_seed(rows)
    z = 3 * torch.randn(lanes, rows, classes, generator=draws)
    return z, torch.randint(0, classes, (lanes, rows), generator=draws), torch.rand(lanes, rows, generator=draws)


def losses_and_gradients(loss, z, y, weights):
    z = z.clone().requires_grad_()
    values = loss(z, y)
    (gradient,) = torch.autograd.grad((values * weights).sum(), z)
    return values.detach(), gradient


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients_are_those_of_torch_to_the_bit(shape, smoothing):
    def loss(z, y):
        return F.cross_entropy(z, y, reduction="none", label_smoothing=smoothing)

    def together(z, y):
        with Entropy():
            return vmap(loss)(z, y)

    z, y, weights = drawn(*shape)
    made = losses_and_gradients(together, z, y, weights)
    for lane in range(len(z)):
        alone = losses_and_gradients(loss, z[lane], y[lane], weights[lane])
        for found, expected in zip(made, alone, strict=True):
            assert torch.equal(found[lane], expected)
            assert torch.equal(torch.signbit(found[lane]), torch.signbit(expected))


OTHERWISE = {
    "weights of classes": {"weight": torch.tensor([1.0, 2.0, 0.5])},
    "a mean": {"reduction": "mean"},
    "a class that does not count": {"ignore_index": 1},
}


@pytest.mark.parametrize("asked", OTHERWISE.values(), ids=OTHERWISE)
def test_what_asks_for_more_is_left_to_torch(asked):
    z, y, _ = drawn(8, 3)
    asked = {"reduction": "none", **asked}
    with Entropy():
        made = F.cross_entropy(z[0], y[0], **asked)
    assert torch.equal(made, F.cross_entropy(z[0], y[0], **asked))


def test_shares_of_classes_are_left_to_torch():
    z, _, _ = drawn(8, 3)
    with Entropy():
        made = F.cross_entropy(z[0], z[1].softmax(1), reduction="none")
    assert torch.equal(made, F.cross_entropy(z[0], z[1].softmax(1), reduction="none"))


def test_clients_that_train_together_do_not_bring_sympy(tmp_path):
    words = small_overrides("fedavg", "rounds=1", "training.batch_clients=4", f"output={tmp_path}")
    code = (
        f"import sys; from strata.cluster.cli import main; assert main(['run', 'fedavg', *{words!r}]) == 0; "
        "assert 'torch' in sys.modules; assert 'sympy' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "client by client" not in run.stdout + run.stderr
