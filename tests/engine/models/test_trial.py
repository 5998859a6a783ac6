"""Models of somebody's own: what does not fit is said before a run begins, and what is frozen stays as it was."""

import pytest
import torch
from torch import nn

from strata.engine.build import build_world
from strata.engine.errors import ConfigError, TrainingError
from strata.engine.federation import Federation
from tests.helpers.small import small


class Plain(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.body = nn.Linear(shape[0] * shape[1] * shape[2], 8)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)))


class GivesTwo(Plain):
    def forward(self, x):
        return super().forward(x), x


class MoreClasses(Plain):
    def __init__(self, shape, classes):
        super().__init__(shape, classes + 3)


class Half(Plain):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.head.half()


class Lazy(Plain):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.body = nn.LazyLinear(8)


class Flat(Plain):
    def forward(self, x):
        return super().forward(x)[0]


class WithoutAny(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()

    def forward(self, x):
        return x.flatten(1)[:, :10]


class Raises(Plain):
    def forward(self, x):
        raise KeyError("of the user")


class Frozen(Plain):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.body.requires_grad_(False)


class Normed(Plain):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.head(self.norm(self.body(x.flatten(1))))


def named(kind):
    return f"model={__name__}:{kind.__name__}"


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (GivesTwo, "it gave a tuple"),
        (MoreClasses, r"for two inputs it gave \(2, 13\), float32"),
        (Flat, r"for two inputs it gave \(10,\), float32"),
        (Half, "head.weight is torch.float16: expected float32"),
        (Lazy, "body.weight has no shape yet, as in lazy layers"),
        (WithoutAny, "no parameter to train"),
        (Raises, "it raised KeyError: 'of the user'"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_what_arrived(kind, found):
    with pytest.raises(ConfigError, match=f"model.name={__name__}:{kind.__name__}: .*{found}"):
        build_world(small("fedavg", named(kind)))


@pytest.mark.parametrize("together", [1, 8])
def test_what_a_model_has_frozen_stays_as_it_was(together):
    config = small("fedavg", named(Frozen), f"training.batch_clients={together}", "rounds=2")
    with Federation(config) as federation:
        first = {name: value.clone() for name, value in federation.global_model().state_dict().items()}
        list(federation)
        after = federation.global_model().state_dict()
    # Equal but for the rounding of the mean over clients.
    torch.testing.assert_close(after["body.weight"], first["body.weight"], rtol=1e-6, atol=1e-8)
    assert float((after["head.weight"] - first["head.weight"]).abs().max()) > 1e-3


def test_a_single_sample_under_batch_norm_is_named_with_its_client():
    config = small("fedavg", named(Normed), "method.batch_size=1")
    with (
        Federation(config) as federation,
        pytest.raises(TrainingError, match=r"client \d, round 1: a batch has a single"),
    ):
        federation.run_round()
