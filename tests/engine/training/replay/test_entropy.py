"""Cross-entropy in operations that vmap has a rule for: torch's own bits, and none of its detour."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from strata.engine.data.dataset import Dataset
from strata.engine.method.length import Length
from strata.engine.method.requests import Sgd, Train, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.batched import Batched
from strata.engine.training.replay.entropy import Entropy
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked
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
        def lane(z, y):
            with Entropy(y):
                return loss(z, y)

        return vmap(lane)(z, y)

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
    classes = y[0]
    with Entropy(classes):
        made = F.cross_entropy(z[0], classes, **asked)
    assert torch.equal(made, F.cross_entropy(z[0], classes, **asked))


def test_shares_of_classes_are_left_to_torch():
    z, _, _ = drawn(8, 3)
    shares = z[1].softmax(1)
    with Entropy(torch.zeros(8, dtype=torch.int64)):
        made = F.cross_entropy(z[0], shares, reduction="none")
    assert torch.equal(made, F.cross_entropy(z[0], shares, reduction="none"))


def of_some_classes(model, batch):
    """A loss of one's own, of which torch leaves out what belongs to class 3."""
    return F.cross_entropy(model(batch.x), torch.where(batch.y == 3, -100, batch.y), reduction="none")


def test_what_a_loss_makes_of_the_classes_is_left_to_torch():
    rng = np.random.default_rng(0)
    data = Dataset("made", rng.integers(0, 256, (60, 1, 6, 6), np.uint8), rng.integers(0, 10, 60), 10)
    model = ModelSpec("mclr", (1, 6, 6), 10)
    request = Train(model, init_params(model, 0), Sgd(0.1), 10, Length(epochs=1), loss=of_some_classes)
    asked = [Asked(request, np.arange(20) + 20 * client, client, f"client {client}", Work()) for client in range(3)]
    made = Batched(data).answer(asked)
    assert not any(one.work.singly for one in asked)
    alone = Sequential(data).answer([replace(one, work=Work()) for one in asked])
    for one, other in zip(made, alone, strict=True):
        assert one.loss == pytest.approx(other.loss)
        torch.testing.assert_close(one.params, other.params, rtol=1e-6, atol=1e-7)


def test_clients_that_train_together_do_not_bring_sympy(tmp_path):
    words = small_overrides("fedavg", "rounds=1", "training.batch_clients=4", f"output={tmp_path}")
    code = (
        f"import sys; from strata.cluster.cli import main; assert main(['run', 'fedavg', *{words!r}]) == 0; "
        "assert 'torch' in sys.modules; assert 'sympy' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "client by client" not in run.stdout + run.stderr
