"""The built-in architectures: parameter counts are worked out by hand beside each test."""

import pytest
import torch

from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.models.base import FeatureModel, parameter_count, size_mib
from strata.engine.models.spec import Family, family_of, feature_width
from tests.helpers.arithmetic.references import chained
from tests.helpers.models import COLOUR, GREY, NAMES, conv, dense, spec

POOLED = {"cnn": (1, 2), "cnn_permfl": (0, 1)}  # padding of convolutions, stride of poolings; the others': (0, 2)


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
