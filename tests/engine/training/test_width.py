"""How many clients are answered at once where the configuration leaves it open."""

import pytest

from strata.engine.models.spec import ModelSpec
from strata.engine.training.width import TOGETHER, TOGETHER_ON_GPU, width_of

MCLR = ModelSpec("mclr", (1, 28, 28), 10)
MLP = ModelSpec("mlp", (1, 28, 28), 10, (("hidden", (64, 32)),))
WIDE = ModelSpec("mlp", (1, 28, 28), 10, (("hidden", (1300,)),))
CNN = ModelSpec("cnn", (1, 28, 28), 10, (("depth", 2), ("width", 0.25)))


@pytest.mark.parametrize(
    ("specs", "on_gpu", "width"),
    [
        ([MCLR], False, TOGETHER),
        ([MLP, MCLR], False, TOGETHER),
        ([WIDE], False, 1),
        ([CNN], False, 1),
        ([MLP, CNN], False, 1),
        ([CNN], True, TOGETHER_ON_GPU),
    ],
)
def test_auto_rests_on_the_architectures_and_the_gpu(specs, on_gpu, width):
    assert width_of("auto", specs, on_gpu) == width


def test_a_number_is_taken_as_it_is():
    assert [width_of(wanted, [CNN], True) for wanted in (1, 7)] == [1, 7]
