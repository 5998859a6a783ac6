"""Specifications of models, and counts of their parameters by hand."""

import torch
from torch import nn

from strata.engine.models.base import FeatureModel
from strata.engine.models.config import ModelConfig
from strata.engine.models.factory import spec_of
from strata.engine.models.spec import ModelSpec

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
NAMES = ["mclr", "dnn", "mlp", "cnn", "cnn_permfl", "cnn_permfl_fmnist"]


def spec(name: str, shape: tuple[int, ...] = GREY, classes: int = 10, **settings: object) -> ModelSpec:
    return spec_of(ModelConfig(name=name, **settings), shape, classes)


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel**2 + outputs


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def normed(
    input_shape: tuple[int, ...], classes: int, hidden: int = 4, sizes: tuple[int, ...] = (), double: bool = False
) -> nn.Module:
    kind = torch.float64 if double else torch.float32
    layers = [nn.Linear(input_shape[0], hidden, dtype=kind), nn.BatchNorm1d(hidden)]
    return FeatureModel(nn.Sequential(*layers), nn.Linear(hidden, classes))


NORMED = f"{__name__}:normed"
