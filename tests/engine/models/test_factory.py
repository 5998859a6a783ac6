"""From the configuration to a model, and what cannot be built."""

import pickle

import pytest
from torch import nn

from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError
from strata.engine.models.base import init_params, parameter_count
from strata.engine.models.factory import spec_of
from strata.engine.models.spec import Family, subnet_of
from strata.engine.models.supernets.spaces import space
from strata.engine.models.supernets.subnet import SubnetSpec, shapes, supernet_params
from tests.helpers.models import NORMED, dense, spec


def broken(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    raise KeyError("no such layer")


def no_module(input_shape: tuple[int, ...], classes: int) -> object:
    return "a model"


def test_own_factory_with_options() -> None:
    made = spec(NORMED, (6,), classes=3, options={"hidden": 5, "sizes": [1, [2, 3]]})
    assert made.options == (("hidden", 5), ("sizes", (1, (2, 3))))
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))
    # Linear 6–5, batch norm with a scale and a shift each, linear 5–3
    assert parameter_count(made) == dense(6, 5) + 2 * 5 + dense(5, 3)


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


def test_options_that_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match=r"model\.options\.hidden=.*expected a number"):
        spec(NORMED, (6,), options={"hidden": {"a": 1}})


def test_a_family_of_ones_own() -> None:
    entries = ["mclr", {"name": "mlp", "hidden": [7]}, {"depth": 1}]
    family = spec("cnn", family=entries, width=0.5)
    expected = (spec("mclr"), spec("mlp", hidden=[7]), spec("cnn", depth=1, width=0.5))
    assert family == Family(expected)


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
