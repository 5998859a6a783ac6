"""Parameters of a model: their bits, their type, and what belongs to them."""

import pytest
import torch
from torch import nn

from strata.engine.models.base import FeatureModel, features_of, head_names, init_params, parameter_count, size_mib
from strata.engine.models.spec import Joint, ModelSpec
from tests.helpers.models import NAMES, NORMED, spec


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


def test_buffers_of_floating_point_belong_to_the_parameters_and_counters_do_not() -> None:
    params = init_params(ModelSpec(NORMED, (6,), 10, (("double", True),)), 0)
    assert torch.equal(params["features.1.running_var"], torch.ones(4))
    assert "features.1.num_batches_tracked" not in params
    assert params["features.0.weight"].dtype == torch.float32


def test_a_head_has_its_names_and_all_others_are_of_the_features() -> None:
    layers = nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4))
    model = FeatureModel(nn.Linear(3, 6), layers)
    assert model.head_names == (
        "head.0.weight",
        "head.1.weight",
        "head.1.bias",
        "head.1.running_mean",
        "head.1.running_var",
    )
    assert set(model.state_dict()) - set(model.head_names) - {"head.1.num_batches_tracked"} == {
        "features.weight",
        "features.bias",
    }


def test_the_head_of_an_architecture_is_found_where_it_has_one() -> None:
    assert head_names(spec("mclr")) == ("head.weight", "head.bias")
    assert head_names(Joint((("model", spec("mclr")),))) == ()


def test_features_are_those_of_a_feature_model() -> None:
    model = FeatureModel(nn.Flatten(), nn.Linear(3, 2))
    assert features_of(model) is model.features
    with pytest.raises(TypeError, match=r"expected a FeatureModel\(features, head\), not a Linear"):
        features_of(model.head)
