"""Architectures: parameter counts are worked out by hand beside each test."""

import pickle

import pytest
import torch
from torch import Tensor, nn

from strata.engine.data.dataset import TokenShape
from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.models.base import FeatureModel, init_params, parameter_count, size_mib
from strata.engine.models.build import spec_of
from strata.engine.models.config import ModelConfig
from strata.engine.models.spec import (
    Family,
    Joint,
    ModelSpec,
    family_of,
    feature_width,
    join_params,
    reduced,
    split_params,
)
from strata.engine.options import check
from tests.helpers.references import chained

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
NAMES = ["mclr", "dnn", "mlp", "cnn", "cnn_permfl", "cnn_permfl_fmnist"]
POOLED = {"cnn": (1, 2), "cnn_permfl": (0, 1)}  # padding of convolutions, stride of poolings; the others': (0, 2)


def spec(name: str, shape: tuple[int, ...] = GREY, classes: int = 10, **settings: object) -> ModelSpec:
    return spec_of(ModelConfig(name=name, **settings), shape, classes)


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel**2 + outputs


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def test_mclr_on_28_by_28() -> None:
    assert parameter_count(spec("mclr")) == 784 * 10 + 10 == 7850


def test_dnn_of_the_synthetic_data() -> None:
    assert parameter_count(spec("dnn", (60,))) == (60 * 20 + 20) + (20 * 10 + 10) == 1430


def test_mlp_with_hidden_layers() -> None:
    assert parameter_count(spec("mlp", (60,), hidden=[30, 7])) == dense(60, 30) + dense(30, 7) + dense(7, 10)
    # The "2NN" of McMahan et al. (2017) has 199,210 parameters.
    assert parameter_count(spec("mlp", hidden=[200, 200])) == 199_210


def test_cnn_permfl() -> None:
    # Without padding a convolution 2×2 and a pooling 2×2 of stride 1 take one pixel each: 28 → 27 → 26 → 25 → 24.
    expected = conv(1, 16, 2) + conv(16, 32, 2) + dense(32 * 24 * 24, 128) + dense(128, 10)
    assert parameter_count(spec("cnn_permfl")) == expected


def test_cnn_permfl_fmnist() -> None:
    # 28 → 26 → 13 → 11 → 5
    expected = conv(1, 32, 3) + conv(32, 64, 3) + dense(64 * 5 * 5, 128) + dense(128, 10)
    assert parameter_count(spec("cnn_permfl_fmnist")) == expected


@pytest.mark.parametrize(("shape", "side"), [(GREY, 7), (COLOUR, 8), ((2, 9, 9), 2)])
def test_cnn_halves_the_image_per_block(shape: tuple[int, int, int], side: int) -> None:
    expected = conv(shape[0], 32, 3) + conv(32, 64, 3) + dense(64 * side**2, 10)
    assert parameter_count(spec("cnn", shape)) == expected


def test_cnn_width_and_depth() -> None:
    # width 0.1, depth 3: channels round(3.2), round(6.4), round(12.8); 28 → 14 → 7 → 3
    expected = conv(1, 3, 3) + conv(3, 6, 3) + conv(6, 13, 3) + dense(13 * 9, 10)
    assert parameter_count(spec("cnn", width=0.1, depth=3)) == expected
    counts = [parameter_count(spec("cnn", width=width)) for width in (0.01, 0.25, 0.5, 1.0, 2.0)]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in NAMES for shape in (GREY, COLOUR, (3, 17, 11))]
    + [
        ("cnn", (5, 8, 8)),
        ("cnn_permfl", (1, 5, 6)),
        ("cnn_permfl_fmnist", (4, 10, 10)),
        ("mclr", (60,)),
        ("dnn", (1,)),
    ],
)
def test_logits_are_the_head_of_the_features(name: str, shape: tuple[int, ...]) -> None:
    with torch_scope(0):
        module, x = spec(name, shape, classes=7).build(), torch.randn(4, *shape)
    assert isinstance(module, FeatureModel)
    features, logits = chained(module, x, *POOLED.get(name, ()))
    assert logits.shape == (4, 7)
    torch.testing.assert_close(module.features(x), features)
    torch.testing.assert_close(module(x), logits)


def test_size_is_four_bytes_per_parameter() -> None:
    assert size_mib(spec("mclr")) == 7850 * 4 / 1024**2


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bits(name: str) -> None:
    first, again, other = (init_params(spec(name, (1, 12, 12)), seed) for seed in (3, 3, 4))
    assert list(first) == list(again)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_torch_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    made = spec("cnn", (1, 12, 12))
    init_params(made, 3)
    parameter_count(made)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_parameters_are_fresh_detached_float32() -> None:
    params = init_params(spec("cnn_permfl", (1, 12, 12)), 0)
    for value in params.values():
        assert value.dtype == torch.float32
        assert value.device.type == "cpu"
        assert value.is_contiguous()
        assert not value.requires_grad


def normed(input_shape: tuple[int, ...], classes: int, hidden: int = 4, sizes: tuple[int, ...] = ()) -> nn.Module:
    layers = [nn.Linear(input_shape[0], hidden, dtype=torch.float64), nn.BatchNorm1d(hidden)]
    return FeatureModel(nn.Sequential(*layers), nn.Linear(hidden, classes))


def broken(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    raise KeyError("no such layer")


def no_module(input_shape: tuple[int, ...], classes: int) -> object:
    return "a model"


def test_own_factory_with_options() -> None:
    made = spec(f"{__name__}:normed", (6,), classes=3, options={"hidden": 5, "sizes": [1, [2, 3]]})
    assert made.options == (("hidden", 5), ("sizes", (1, (2, 3))))
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))
    # Linear 6–5, batch norm with a scale and a shift each, linear 5–3
    assert parameter_count(made) == dense(6, 5) + 2 * 5 + dense(5, 3)


def test_buffers_of_floating_point_belong_to_the_parameters_and_counters_do_not() -> None:
    params = init_params(spec(f"{__name__}:normed", (6,)), 0)
    assert torch.equal(params["features.1.running_var"], torch.ones(4))
    assert "features.1.num_batches_tracked" not in params
    assert params["features.0.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.package:factory", "cannot be imported"),
        (f"{__name__}:nothing", "cannot be imported"),
        (f"{__name__}:broken", "no such layer"),
        (f"{__name__}:no_module", r"expected a torch\.nn\.Module"),
        ("cnm", r"no such model\. Did you mean cnn\?.*mclr.*package\.module:factory"),
    ],
)
def test_model_that_does_not_exist_or_breaks(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec(name)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("cnn", (60,), r"images \(channels, height, width\).*mclr, dnn and mlp take any"),
        ("cnn_permfl", (60,), r"images \(channels, height, width\)"),
        ("cnn_permfl_fmnist", (1, 9, 28), "at least 10×10"),
        ("cnn_permfl", (1, 28, 4), "at least 5×5"),
        ("cnn", (1, 3, 3), "at least 4×4"),
        ("cnn_series", (100, 2), r"series \(channels, length\).*data\.layout=last"),
    ],
)
def test_misfit_says_what_fits(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec(name, shape)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "mclx"}, r"model\.name=mclx: no such model\. Did you mean mclr\?"),
        ({"name": "mclr", "options": {"hidden": 3}}, r"model\.options=.*model\.name=mclr takes none"),
        ({"name": "mlp", "hidden": [20, 0]}, r"model\.hidden=0 is out of range"),
        ({"name": "cnn", "width": 0.0}, r"model\.width=0 is out of range"),
        ({"name": "cnn", "depth": 0}, r"model\.depth=0 is out of range"),
    ],
)
def test_impossible_configuration_is_named(settings: dict[str, object], message: str) -> None:
    check(ModelConfig(), "model.")
    with pytest.raises(ConfigError, match=message):
        check(ModelConfig(**settings), "model.")


def test_options_that_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match=r"model\.options\.hidden=.*expected a number"):
        spec(f"{__name__}:normed", (6,), options={"hidden": {"a": 1}})


def test_specs_are_hashable_equal_by_value_and_picklable() -> None:
    one, same, wider = spec("cnn"), spec("cnn"), spec("cnn", width=2.0)
    assert one == same
    assert len({one, same, wider}) == 2
    joint = Joint((("local", one), ("lite", wider)))
    assert pickle.loads(pickle.dumps(joint)) == joint
    assert hash(pickle.loads(pickle.dumps(joint))) == hash(joint)


def test_joint_prefixes_names_and_answers_by_name() -> None:
    local, lite = spec("mlp", (6,), hidden=[5]), spec("mclr", (6,))
    joint = Joint((("local", local), ("lite", lite)))
    params = init_params(joint, 0)
    assert list(params) == [f"local.{name}" for name in init_params(local, 0)] + [
        f"lite.{name}" for name in init_params(lite, 0)
    ]
    assert parameter_count(joint) == dense(6, 5) + dense(5, 10) + dense(6, 10)
    with torch_scope(0):
        module = joint.build()
    x = torch.ones(2, 6)
    outputs: dict[str, Tensor] = module(x)
    assert list(outputs) == ["local", "lite"]
    assert torch.equal(
        outputs["lite"], torch.nn.functional.linear(x, params["lite.head.weight"], params["lite.head.bias"])
    )


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a.b", "c")])
def test_joint_needs_distinct_plain_names(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="distinct names"):
        Joint(tuple((name, spec("mclr")) for name in names))


def test_the_five_cnns_have_the_published_sizes() -> None:
    # Convolutions 5×5 and poolings 2×2 without padding: 32 → 28 → 14 → 10 → 5.
    family = spec("cnn_five", COLOUR)
    published = (10.00, 6.92, 5.04, 4.04, 2.56)
    shapes = ((32, 2000), (16, 2000), (32, 1000), (32, 800), (32, 500))
    assert isinstance(family, Family)
    assert [round(size_mib(member), 2) for member in family.members] == list(published)
    for member, (channels, first) in zip(family.members, shapes, strict=True):
        convolutions = conv(3, 16, 5) + conv(16, channels, 5)
        expected = convolutions + dense(channels * 25, first) + dense(first, 500) + dense(500, 10)
        assert parameter_count(member) == expected


def test_the_five_cnns_on_28_by_28_scaled() -> None:
    # 28 → 24 → 12 → 8 → 4; width multiplies the first dense layer and nothing else.
    family = spec("cnn_five", GREY, classes=7, width=0.1, features=30)
    expected = conv(1, 16, 5) + conv(16, 16, 5) + dense(16 * 16, 200) + dense(200, 30) + dense(30, 7)
    assert parameter_count(family.members[1]) == expected
    assert {feature_width(member) for member in family.members} == {30}
    with torch_scope(0):
        module, x = family.members[1].build(), torch.randn(2, *GREY)
    features, logits = chained(module, x)
    torch.testing.assert_close(module.features(x), features)
    torch.testing.assert_close(module(x), logits)
    assert spec("cnn_five_2", GREY, classes=7, width=0.1, features=30) == family.members[1]


@pytest.mark.parametrize("name", ["cnn_five", "cnn_five_4"])
def test_the_five_cnns_need_images_of_16_pixels(name: str) -> None:
    assert parameter_count(family_of(spec(name, (3, 16, 16))).of(0)) > 0
    with pytest.raises(ConfigError, match="at least 16×16"):
        spec(name, (3, 15, 16))


def test_client_i_has_architecture_i_mod_n() -> None:
    family = spec("cnn_five")
    assert [family.of(client).name for client in (0, 4, 5, 12)] == [f"cnn_five_{i}" for i in (1, 5, 1, 3)]
    assert pickle.loads(pickle.dumps(family)) == family
    assert hash(pickle.loads(pickle.dumps(family))) == hash(family)
    assert family_of(family) == family
    assert family_of(spec("mclr")) == Family((spec("mclr"),))
    with pytest.raises(TypeError, match="not a Joint"):
        family_of(Joint((("a", spec("mclr")),)))
    with pytest.raises(ConfigError, match=r"the model is a family \(cnn_five_1, "):
        family.build()


def test_a_family_of_ones_own() -> None:
    entries = ["mclr", {"name": "mlp", "hidden": [7]}, {"depth": 1}]
    family = spec("cnn", family=entries, width=0.5)
    expected = (spec("mclr"), spec("mlp", hidden=[7]), spec("cnn", depth=1, width=0.5))
    assert family == Family(expected)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, r"model\.family\[1\]=3: expected the name of a model, or settings: name, hidden"),
        ("mclx", r"model\.family\[1\]\.name=mclx: no such model\. Did you mean mclr"),
        ({"size": 3}, r"model\.family\[1\]\.size: no such key, in model\.family\. Keys in model\.family\[1\]: name"),
        ({"widht": 2}, r"model\.family\[1\]\.widht: no such key, in model\.family\. Did you mean width\?"),
        ({"width": "wide"}, r"model\.family\[1\]\.width='wide': expected a number > 0"),
        ({"depth": True}, r"model\.family\[1\]\.depth=True: expected a whole number ≥ 1"),
        ({"hidden": [1.5]}, r"model\.family\[1\]\.hidden\.0=1\.5: expected a whole number ≥ 1"),
        ({"depth": 0}, r"model\.family\[1\]\.depth=0 is out of range"),
        ({"family": ["mlp"]}, r"model\.family\[1\]: \['mlp'\] is a family itself"),
        ("cnn_five", r"model\.family\[1\]: cnn_five is a family itself"),
    ],
)
def test_impossible_member_is_named(entry: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(ModelConfig(family=["mclr", entry]), "model.")


def test_feature_width_is_that_of_the_heads_first_linear_layer() -> None:
    assert feature_width(spec("mclr", (60,))) == 60
    assert feature_width(spec("cnn_permfl")) == 128
    assert feature_width(spec(f"{__name__}:normed", (6,), options={"hidden": 5})) == 5
    for factory in ("headless", "no_features"):
        with pytest.raises(ConfigError, match="exposes no features"):
            feature_width(spec(f"{__name__}:{factory}", (6,)))


def headless(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return FeatureModel(nn.Linear(6, classes), nn.Identity())


def no_features(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Linear(6, classes)


def test_parameters_of_a_joint_are_split_and_joined() -> None:
    one, two = {"a.b": torch.ones(1), "c": torch.zeros(2)}, {"c": torch.ones(3)}
    joined = join_params(local=one, lite=two)
    assert list(joined) == ["local.a.b", "local.c", "lite.c"]
    assert split_params(joined) == {"local": one, "lite": two}
    assert joined["local.c"] is one["c"]
    with pytest.raises(ValueError, match="plain has no prefix"):
        split_params({"plain": torch.ones(1)})


@pytest.mark.parametrize(
    ("name", "shape", "settings"),
    [
        ("mlp", (8,), {"hidden": [20, 4]}),
        ("cnn", COLOUR, {}),
        ("cnn_five_1", COLOUR, {}),
        ("cnn_series", (2, 40), {}),
        ("cnn_series_five_5", (40,), {}),
    ],
)
def test_a_reduced_model_is_the_same_chain_with_hidden_sizes_cut(
    name: str, shape: tuple[int, ...], settings: dict[str, object]
) -> None:
    whole = spec(name, shape, **settings)
    before, after = init_params(whole, 1), init_params(reduced(whole, 6), 1)
    sizes = {key: value.shape[0] for key, value in before.items()}
    cut = {key: size if key.startswith("head") else min(size, 6) for key, size in sizes.items()}
    assert {key: value.shape[0] for key, value in after.items()} == cut != sizes
    generous = init_params(reduced(whole, max(sizes.values())), 1)
    assert all(torch.equal(value, before[key]) for key, value in generous.items())


def test_a_reduced_transformer_keeps_whole_heads() -> None:
    whole = spec("transformer", TokenShape((6,), 30), width=1.0, depth=2, features=64)
    module = reduced(whole, 20).build()
    assert isinstance(module, FeatureModel)
    shapes = {key: tuple(value.shape) for key, value in module.named_parameters()}
    assert shapes["features.embedding.weight"] == (30, 16)  # one head of 16: 20 is no whole number of them
    assert shapes["features.blocks.1.attention.q.weight"] == (16, 16)
    assert shapes["head.weight"] == (10, 20)


@pytest.mark.parametrize("name", ["mclr", "dnn", "cnn_permfl"])
def test_what_has_no_hidden_sizes_to_reduce_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.name={name} has no hidden sizes to reduce\. Choose mlp"):
        reduced(spec(name), 4)
