"""Specifications of models: alone, joined, in families, reduced."""

import pickle

import pytest
import torch
from torch import Tensor, nn

from strata.engine.config.load import load_config
from strata.engine.data.dataset import TokenShape
from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.models.base import FeatureModel, init_params, parameter_count
from strata.engine.models.factory import spec_of
from strata.engine.models.spec import (
    Family,
    Joint,
    family_of,
    feature_width,
    join_params,
    reduced,
    split_params,
    subnet_of,
)
from tests.helpers.models import COLOUR, NORMED, dense, spec


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


def test_feature_width_is_that_of_the_heads_first_linear_layer() -> None:
    assert feature_width(spec("mclr", (60,))) == 60
    assert feature_width(spec("cnn_permfl")) == 128
    assert feature_width(spec(NORMED, (6,), options={"hidden": 5})) == 5
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


def test_methods_that_need_a_space_refuse_other_models():
    with pytest.raises(ConfigError, match=r"model.name=mclr: a method needs a model that is cut from a search space"):
        subnet_of(spec_of(load_config("fedavg").model, (1, 28, 28), 10), "a method")
