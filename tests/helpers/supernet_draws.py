"""Architectures drawn for the property tests of the supernets."""

from collections.abc import Iterator

import torch

from strata.engine.determinism import torch_scope
from strata.engine.models.supernets.spaces import space
from strata.engine.models.supernets.subnet import SubnetSpec, supernet_params
from strata.engine.params import Params
from strata.engine.seeding import derive

SMALL = ("mobilenetv3_small", "vit_small")
GREY, COLOUR, CLASSES, DRAWS = (1, 28, 28), (3, 32, 32), 10, 50


def specs(name: str, draws: int = DRAWS) -> Iterator[SubnetSpec]:
    """Random architectures, after the two extreme ones."""
    chosen = space(name, GREY)
    drawn = [chosen.random(derive(7, name, draw)) for draw in range(draws)]
    for architecture in (chosen.smallest(), chosen.largest(), *drawn):
        yield SubnetSpec(chosen, architecture, GREY, CLASSES)


def weights(name: str, seed: int = 0) -> Params:
    """Shared weights in which no value is what a layer starts with: batch norm's are 0 and 1."""
    w = supernet_params(space(name, GREY), GREY, CLASSES, seed)
    with torch_scope(seed):
        return {key: value + 0.1 * torch.rand(value.shape) for key, value in w.items()}


def moved(part: Params, seed: int) -> Params:
    """What training might have made of a subnet's weights."""
    with torch_scope(seed):
        return {key: value + torch.randn(value.shape) for key, value in part.items()}


def equal(a: Params, b: Params) -> bool:
    """The same names, shapes and bits."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
