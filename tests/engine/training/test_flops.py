"""FLOPs of steps: 2·B·I·O for a product of (B, I) and (I, O), forwards, for its weights and for its inputs.

# B batch, D features, H hidden units, K classes
"""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from strata.algorithms.hapfl import MutualDistillation
from strata.engine.method.length import Length
from strata.engine.method.losses import Batch, SmoothedCrossEntropy
from strata.engine.method.requests import Sgd, Train
from strata.engine.models.base import FeatureModel
from strata.engine.models.spec import Joint, ModelSpec
from strata.engine.training import flops
from strata.engine.training.flops import (
    FlopCounts,
    count_feature_flops,
    count_step_flops,
    select_trainable,
    set_modes,
)

B, D, H, K = 6, 5, 4, 3
FIRST, SECOND = 2 * B * D * H, 2 * B * H * K
BUILT = []


@dataclass(frozen=True)
class TwoLayers:
    """Features of one layer and a head of another; notes that it was built."""

    hidden: int = H
    looks: bool = False
    dropout: float = field(default=0.5, compare=False)

    def build(self):
        BUILT.append(self)
        layers = [nn.Linear(D, self.hidden), nn.BatchNorm1d(self.hidden), nn.Dropout(self.dropout), Looking(self.looks)]
        return FeatureModel(nn.Sequential(*layers), nn.Linear(self.hidden, K))


class Looking(nn.Module):
    """Passes its input on, after a look at a value if it ``looks``."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def forward(self, x):
        return x if not self.looks or float(x.detach().sum()) < 1e9 else -x


def batch(n=B):
    return Batch(torch.ones(n, D), torch.zeros(n, dtype=torch.int64))


def train(model=TwoLayers(), **changes):  # frozen
    return Train(model, {}, Sgd(0.1), B, Length(1), **changes)


@pytest.mark.parametrize(
    ("trainable", "flops"),
    [
        (None, 2 * FIRST + 3 * SECOND),  # the first layer's inputs are data, which have no gradient
        ({"head.weight", "head.bias"}, FIRST + 2 * SECOND),
        ({"features.0.weight"}, 2 * FIRST + 2 * SECOND),
    ],
)
def test_a_step_costs_the_products_that_its_gradients_need(trainable, flops):
    request = train(trainable=None if trainable is None else frozenset(trainable))
    assert count_step_flops(request, batch()) == flops


def test_a_model_that_looks_at_values_costs_what_it_costs_without():
    assert count_step_flops(train(TwoLayers(looks=True)), batch()) == 2 * FIRST + 3 * SECOND
    assert count_feature_flops(TwoLayers(looks=True), torch.ones(B, D)) == FIRST


def test_counting_leaves_torchs_draws_as_they_were():
    state = torch.get_rng_state()
    count_step_flops(train(TwoLayers(looks=True)), batch())
    assert torch.equal(torch.get_rng_state(), state)


def test_each_kind_of_step_is_counted_once():
    counts = FlopCounts()
    BUILT.clear()
    assert counts.step(train(), batch()) == counts.step(replace(train(), optimizer=Sgd(9.0)), batch())
    assert len(BUILT) == 1
    others = [
        (train(), batch(3)),
        (train(TwoLayers(hidden=2)), batch()),
        (train(loss=SmoothedCrossEntropy(0.1)), batch()),
        (train(trainable=frozenset({"head.weight"})), batch()),
        (train(frozen=("features",)), batch()),
        (train(constants={"beside": torch.ones(2)}), batch()),
    ]
    for built, (request, other) in enumerate(others, 2):
        counts.step(request, other)
        assert len(BUILT) == built
    assert counts.step(train(), batch(3)) == counts.step(train(), batch()) / 2


def shipped(name, **options):
    return ModelSpec(name, (1, 28, 28) if name.startswith("cnn") else (D,), K, tuple(sorted(options.items())))


SHIPPED = [
    shipped("mclr"),
    shipped("mlp", hidden=(7, 5)),
    shipped("cnn", width=0.25, depth=2),
    shipped("cnn_five_3", width=0.25, features=16),
    ModelSpec("cnn_series", (2, 24), K, (("depth", 2), ("features", 16), ("width", 0.25))),
    ModelSpec("transformer", (9,), K, (("depth", 2), ("features", 16), ("vocabulary", 11), ("width", 0.5))),
    Joint((("local", shipped("cnn", width=0.25, depth=1)), ("lite", shipped("cnn", width=0.125, depth=1)))),
]


def inputs(model, n):
    spec = model.children[0][1] if isinstance(model, Joint) else model
    x = torch.ones(n, *spec.input_shape)
    return Batch(x.long() if spec.name == "transformer" else x, torch.zeros(n, dtype=torch.int64))


@pytest.mark.parametrize("model", SHIPPED, ids=lambda model: getattr(model, "name", "joint"))
def test_what_ships_is_counted_at_three_sizes_and_costs_what_it_does_at_any(model, monkeypatch):
    joint = isinstance(model, Joint)
    request = train(model, **({"loss": MutualDistillation(1.0, 1.0, 1.0)} if joint else {}))
    direct = {n: count_step_flops(request, inputs(model, n)) for n in (1, 4, 7, 32, 61)}
    sizes = []
    monkeypatch.setattr(
        flops, "count_step_flops", lambda request, batch: sizes.append(len(batch.y)) or count_step_flops(request, batch)
    )
    counts = FlopCounts()
    assert {n: counts.step(request, inputs(model, n)) for n in direct} == direct
    assert sizes == list(flops.COUNTED)


@dataclass(frozen=True)
class Pairwise:
    """A loss over all pairs of a batch, as if it shipped with Strata."""

    __module__ = "strata.engine.method.losses"

    def __call__(self, model, batch):
        logits = model(batch.x)
        return (logits @ logits.T).sum(1)


def test_what_grows_faster_than_its_rows_is_counted_at_each_size():
    request = train(shipped("mclr"), loss=Pairwise())
    counts = FlopCounts()
    for n in (1, 4, 9):
        # The layer forwards and for its weights, the product of all pairs forwards and for both of its sides.
        expected = 2 * (2 * n * D * K) + 3 * (2 * n * n * K)
        assert counts.step(request, inputs(shipped("mclr"), n)) == expected


def test_features_are_counted_apart_from_steps():
    counts = FlopCounts()
    assert counts.features(TwoLayers(), torch.ones(B, D)) == FIRST
    assert counts.features(TwoLayers(), torch.ones(2 * B, D)) == 2 * FIRST
    assert counts.step(train(), batch()) == 2 * FIRST + 3 * SECOND


def test_frozen_parts_are_in_evaluation_mode_and_the_rest_is_not():
    module = TwoLayers().build().eval()
    set_modes(module, ["features.1"])
    assert {name for name, part in module.named_modules() if not part.training} == {"features.1"}
    set_modes(module, ["features"])
    assert {name for name, part in module.named_modules() if part.training} == {"", "head"}
    with pytest.raises(ValueError, match=r"frozen=feature: the model has no such submodule"):
        set_modes(module, ["feature"])


def test_gradients_reach_the_named_parameters_only():
    module = TwoLayers().build()
    assert set(select_trainable(module, frozenset({"head.bias", "nowhere"}))) == {"head.bias"}
    assert [name for name, value in module.named_parameters() if value.requires_grad] == ["head.bias"]
    every = select_trainable(module, None)
    assert every == dict(module.named_parameters())
    assert all(value.requires_grad for value in every.values())


def test_counting_leaves_what_it_counts_as_it_was():
    class Shifting(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(D, K)

        def forward(self, x):
            return self.head(x.sub_(1))

    class Spec:
        def build(self):
            return Shifting()

    counted = Batch(torch.ones(B, D), torch.zeros(B, dtype=torch.int64))
    count_step_flops(train(Spec()), counted)
    assert torch.equal(counted.x, torch.ones(B, D))
