"""Slots, their options, and architectures."""

import numpy as np
import pytest
import torch

from strata.engine.errors import ConfigError
from strata.engine.models.base import init_params
from strata.engine.models.supernets.spaces import NAMES, space
from strata.engine.models.supernets.subnet import SubnetSpec, shapes, supernet_params
from tests.helpers.supernet_draws import CLASSES, GREY, SMALL, specs


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
