"""Search spaces and the subnets built from them."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from strata.engine.config.load import load_config
from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import ConfigError
from strata.engine.method.length import Length
from strata.engine.method.requests import Evaluate, Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.models.build import spec_of
from strata.engine.models.spec import subnet_of
from strata.engine.models.supernets.cost import cost
from strata.engine.models.supernets.sharing import extract
from strata.engine.models.supernets.space import HEAD_SIZE
from strata.engine.models.supernets.spaces import NAMES, space
from strata.engine.models.supernets.subnet import SubnetSpec, shapes, supernet_params, supernet_spec
from strata.engine.training.trainer import Trainer
from tests.helpers.references import encoder_layer
from tests.helpers.supernet_draws import CLASSES, GREY, SMALL, specs, weights

COLOUR = (3, 32, 32)


def test_the_published_mobilenet_space_has_23_slots_and_49_logits():
    published = space("mobilenetv3", COLOUR)
    stages = [  # width, depth, kernel, expansion, as the paper's table has them
        [[16, 24], [1, 2], [3, 5], [1]],
        [[24, 40], [1, 2], [3, 5], [3, 4, 5]],
        [[40, 80], [2, 3, 4], [3, 5], [3, 4, 5]],
        [[48, 112], [2, 3, 4], [3, 5], [3, 4, 5]],
        [[96, 160], [2, 3, 4], [3, 5], [3, 4, 5]],
    ]
    table = [options for stage in stages for options in stage]
    assert [list(slot.options) for slot in published.slots] == [[224], [16], *table, [1280]]
    assert len(published.slots) == 1 + 1 + 5 * 4 + 1 == 23
    assert sum(published.sizes) == 1 + 1 + (10 + 13 + 10 + 13) + 1 == 49


def test_the_published_vit_space_has_31_slots():
    published = space("vit", COLOUR)
    assert len(published.slots) == 1 + (1 + 7 + 1) + 7 + 7 + 7 == 31
    names = [slot.name for slot in published.slots]
    assert names[:4] == ["resolution", "stem.width", "stage1.width", "stage1.depth"]
    assert names[-1] == "last.width"


@pytest.mark.parametrize("name", NAMES)
def test_extreme_and_random_architectures(name):
    chosen = space(name, GREY)
    assert [slot.options[0] for slot in chosen.slots] == list(chosen.values(chosen.smallest()).values())
    assert [slot.options[-1] for slot in chosen.slots] == list(chosen.values(chosen.largest()).values())
    drawn = np.array([chosen.random(seed) for seed in range(200)])
    assert drawn.min(0).tolist() == list(chosen.smallest())
    assert drawn.max(0).tolist() == list(chosen.largest())
    assert chosen.random(3) == chosen.random(3) != chosen.random(4)
    assert hash(chosen) == hash(space(name, GREY))
    assert chosen.count == np.prod([len(slot.options) for slot in chosen.slots])


def test_an_action_of_numpy_integers_is_an_architecture():
    chosen = space("vit_small", GREY)
    action = np.array(chosen.random(0))
    assert chosen.require(action) == chosen.random(0)
    assert SubnetSpec(chosen, action, GREY, 10) == SubnetSpec(chosen, chosen.random(0), GREY, 10)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [((0,), "15 option indices, one per slot, not 1"), ((2, *[0] * 14), r"resolution has the options \[28\].*not 2")],
)
def test_an_impossible_architecture_is_refused(architecture, message):
    with pytest.raises(ConfigError, match=message):
        SubnetSpec(space("mobilenetv3_small", GREY), architecture, GREY, 10)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("mobilenet", GREY, {}, "Did you mean mobilenetv3"),
        ("vit_small", (60,), {}, r"square images.*\(60,\)"),
        ("vit_small", (1, 28, 32), {}, "square images"),
        ("vit_small", (1, 8, 8), {}, "at least 16 pixels"),
        ("vit_small", GREY, {"stage2.widht": [16]}, "Did you mean stage2.width"),
        ("vit_small", GREY, {"stage2.width": [24, 16]}, "ascending"),
        ("vit_small", GREY, {"stage2.depth": []}, "ascending"),
        ("vit_small", GREY, {"stage2.depth": [0]}, "positive"),
        ("vit_small", GREY, {"stage2.depth": 3}, "list of integers"),
        ("vit_small", GREY, {"stage2.width": [20]}, "multiples of 8"),
        ("mobilenetv3_small", GREY, {"stage1.kernel": [2]}, "odd"),
    ],
)
def test_an_impossible_space_is_refused(name, shape, options, message):
    with pytest.raises(ConfigError, match=message):
        space(name, shape, options)


def test_a_small_space_takes_its_resolution_from_the_images():
    assert space("vit_small", GREY).resolution == (28,)
    assert space("vit_small", COLOUR).resolution == (32,)
    assert space("vit_small", COLOUR, {"resolution": [16, 24]}).resolution == (16, 24)


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
    for spec in specs(name):
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


@pytest.mark.parametrize("name", SMALL)
def test_a_space_of_one_option_per_slot_is_one_plain_network(name):
    for spec in specs(name, 5):
        fixed = spec.space.only(spec.architecture)
        assert fixed.count == 1
        assert fixed.largest() == fixed.smallest() == fixed.random(5)
        assert fixed.values(fixed.largest()) == spec.values
        assert shapes(SubnetSpec(fixed, fixed.largest(), GREY, CLASSES)) == shapes(spec)
        w, same = supernet_params(fixed, GREY, CLASSES, 3), init_params(spec, 3)
        assert all(torch.equal(w[key], same[key]) for key in w)


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

    (before, trained_loss, after), work = Trainer(images).drive(steps(), rows[:201], rows[201:], 1, "client 0")
    assert work.steps == 6 * 11
    assert trained_loss < 1.5 < 2.2 < before.loss_sum / before.samples  # 2.3 = ln 10 is what guessing costs
    assert after.loss_sum < before.loss_sum
    assert after.accuracy > 0.4  # ten balanced classes


def test_configurations_name_architectures_and_narrow_slots():
    def spec(*words):
        return spec_of(load_config("fedavg", words).model, (1, 28, 28), 10)

    wide = spec("model=vit_small")
    chosen = space("vit_small", (1, 28, 28))
    assert subnet_of(wide, "a method") == SubnetSpec(chosen, chosen.largest(), (1, 28, 28), 10)
    for text, expected in (
        ("smallest", chosen.smallest()),
        ("random", chosen.random(0)),
        ("random:7", chosen.random(7)),
    ):
        assert subnet_of(spec("model=vit_small", f"model.architecture={text}"), "a method").architecture == expected
    written = ",".join(map(str, chosen.random(3)))
    assert chosen.named(written) == chosen.random(3)
    for words in (("model.options={stage2.width: [24], last.width: [64]}",), ("model.options.stage2.width=[24]",)):
        narrow = spec("model=vit_small", *words)
        assert subnet_of(narrow, "a method").values["stage2.width"] == 24
        assert {name: v.shape for name, v in init_params(narrow, 0).items()} == shapes(subnet_of(narrow, "a method"))
    assert init_params(wide, 3).keys() == supernet_params(chosen, (1, 28, 28), 10, 3).keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.architecture=big"], r"'big' is no architecture of vit_small; expected largest, smallest, random"),
        (["model.architecture='0,1'"], r"15 option indices, one per slot, not 2"),
        (["model.options={stage9.width: [8]}"], r"no slot stage9.width. Did you mean"),
        (["model.options={stage2.width: 24}"], r"model.options=.*expected lists"),
    ],
)
def test_configurations_that_name_none_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        spec_of(load_config("fedavg", ["model=vit_small", *words]).model, (1, 28, 28), 10)


def test_methods_that_need_a_space_refuse_other_models():
    with pytest.raises(ConfigError, match=r"model.name=mclr: a method needs a model that is cut from a search space"):
        subnet_of(spec_of(load_config("fedavg").model, (1, 28, 28), 10), "a method")
