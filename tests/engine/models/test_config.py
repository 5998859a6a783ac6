"""The ``model`` part of the configuration: each mistake is named."""

import pytest

from strata.engine.errors import ConfigError
from strata.engine.models.config import ModelConfig
from strata.engine.options import check


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
        ({"family": ["mlp"]}, r"model\.family\[1\]: \['mlp'\] is a family itself"),
        ({"depth": 0}, r"model\.family\[1\]\.depth=0 is out of range"),
        ("cnn_five", r"model\.family\[1\]: cnn_five is a family itself"),
    ],
)
def test_impossible_member_is_named(entry: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(ModelConfig(family=["mclr", entry]), "model.")
