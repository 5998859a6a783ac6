"""Subnets built from search spaces."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.method.length import Length
from strata.engine.method.requests import Evaluate, Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.models.supernets.cost import cost
from strata.engine.models.supernets.sharing import extract
from strata.engine.models.supernets.space import HEAD_SIZE
from strata.engine.models.supernets.spaces import space
from strata.engine.models.supernets.subnet import SubnetSpec, shapes, supernet_params, supernet_spec
from strata.engine.training.sequential import Sequential
from tests.helpers.arithmetic.references import encoder_layer
from tests.helpers.supernet_draws import CLASSES, COLOUR, GREY, SMALL, specs, weights
from tests.helpers.training import lead


def by_hand(spec, module, x):
    """Logits of a subnet of a small space from its weights."""
    w, activation = module.state_dict(), {"mobilenetv3_small": F.hardswish, "vit_small": F.silu}[spec.space.name]

    def convolved(name, x, stride=1, activate=activation):
        kernel = w[f"features.{name}.conv.weight"]
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2, groups=groups)
        norm = (w[f"features.{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return activate(F.batch_norm(x, *norm))

    def inverted_residual(name, x, stride=1):
        x = convolved(f"{name}.expand", x) if f"features.{name}.expand.conv.weight" in w else x
        x = convolved(f"{name}.depthwise", x, stride)
        if f"features.{name}.squeeze.reduce.weight" in w:
            reduce, expand = (
                [w[f"features.{name}.squeeze.{layer}.{key}"] for key in ("weight", "bias")]
                for layer in ("reduce", "expand")
            )
            x = x * F.hardsigmoid(F.conv2d(F.conv2d(x.mean((2, 3), keepdim=True), *reduce).relu(), *expand))
        return convolved(f"{name}.project", x, activate=lambda y: y)

    x = convolved("stem", x, 2)
    for stage, stride in enumerate((1, 2, 2), 1):
        x = inverted_residual(f"stage{stage}.block1.residual", x, stride)
        for block in range(2, spec.values[f"stage{stage}.depth"] + 1):
            name = f"stage{stage}.block{block}"
            if spec.space.name == "vit_small" and stage > 1:
                layer = encoder_layer(module.get_submodule(f"features.{name}"), HEAD_SIZE, activation)
                x = layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
            else:
                x = x + inverted_residual(f"{name}.residual", x)
    x = convolved("last", x).mean((2, 3))
    x = activation(F.linear(x, w["features.mix.weight"], w["features.mix.bias"]))
    return F.linear(x, w["head.weight"], w["head.bias"])


@pytest.mark.parametrize("name", SMALL)
def test_a_subnet_is_a_model_of_the_supernets_names(name):
    w = weights(name)
    x = torch.linspace(-1, 1, 2 * 28 * 28).reshape(2, *GREY)
    whole = shapes(supernet_spec(space(name, GREY), GREY, CLASSES))
    for spec in specs(name, 10):
        part = shapes(spec)
        assert part.keys() <= whole.keys()
        for key, shape in part.items():
            assert len(shape) == len(whole[key])
            assert all(small <= large for small, large in zip(shape, whole[key], strict=True))
        module = spec.build().eval()
        module.load_state_dict(extract(w, spec), strict=False)
        with torch.no_grad():
            logits = module(x)
            assert logits.shape == (2, CLASSES)
            torch.testing.assert_close(logits, by_hand(spec, module, x), rtol=1e-4, atol=1e-4)
        for number, _ in enumerate(spec.space.stages, 1):
            assert len(module.get_submodule(f"features.stage{number}")) == spec.values[f"stage{number}.depth"]


def test_attention_projections_are_selected_by_their_names():
    for spec in specs("vit_small", 5):
        for which in ("q", "k", "v"):
            end, values = f".attention.{which}.weight", spec.values
            found = {key: shape for key, shape in shapes(spec).items() if key.endswith(end)}
            expected = {
                f"features.stage{stage}.block{block}{end}": (values[f"stage{stage}.width"],) * 2
                for stage in (2, 3)
                for block in range(2, values[f"stage{stage}.depth"] + 1)
            }
            assert found == expected
            assert all(rows % HEAD_SIZE == 0 for rows, _ in found.values())


def test_equal_specifications_are_one_key_and_survive_pickling():
    spec = next(specs("vit_small"))
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(pickle.loads(pickle.dumps(spec))) == hash(spec)
    other = SubnetSpec(spec.space, spec.space.largest(), GREY, CLASSES)
    assert spec != other


def test_nothing_touches_the_global_generator():
    chosen = space("mobilenetv3_small", GREY)
    before = torch.get_rng_state()
    first = supernet_params(chosen, GREY, CLASSES, 1)
    spec = SubnetSpec(chosen, chosen.random(99), GREY, CLASSES)
    shapes(spec)
    cost(spec, 5)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = (supernet_params(chosen, GREY, CLASSES, seed) for seed in (1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_batch_norm_statistics_travel_with_the_parameters():
    w = supernet_params(space("mobilenetv3_small", GREY), GREY, CLASSES, 0)
    assert "features.stage1.block1.residual.depthwise.norm.running_mean" in w
    assert not any("num_batches_tracked" in key for key in w)
    assert {value.dtype for value in w.values()} == {torch.float32}


@pytest.mark.parametrize("name", ["mobilenetv3", "vit"])
def test_the_full_spaces_build_and_resize_small_images(name):
    chosen = space(name, COLOUR, {"resolution": [64]})  # the published resolutions take seconds
    spec = SubnetSpec(chosen, chosen.smallest(), COLOUR, 100)
    module = spec.build().eval()
    with torch.inference_mode():
        assert module(torch.zeros(2, *COLOUR)).shape == (2, 100)
        assert module.features.resize(torch.zeros(2, *COLOUR)).shape == (2, 3, 64, 64)


@pytest.fixture(scope="module")
def images():
    return load(DataConfig(name="fashion_mnist_12k", limit=241), 1, 0)


@pytest.mark.parametrize("name", SMALL)
def test_a_subnet_learns_from_real_images(name, images):
    # 201 training images in batches of 20: the last batch of an epoch has one sample, which batch norm must survive.
    rows = np.arange(len(images.y))
    spec = list(specs(name, 1))[-1]

    def steps():
        start = init_params(spec, 0)
        before = yield Evaluate(spec, start)
        trained = yield Train(spec, start, Sgd(0.1), 20, Length(epochs=6))
        after = yield Evaluate(spec, trained.params)
        return before, trained.loss, after

    (before, trained_loss, after), work = lead(Sequential(images), steps(), rows[:201], rows[201:], 1, "client 0")
    assert work.steps == 6 * 11
    assert trained_loss < 1.5 < 2.2 < before.loss_sum / before.samples  # 2.3 = ln 10 is what guessing costs
    assert after.loss_sum < before.loss_sum
    assert after.accuracy > 0.4  # ten balanced classes
