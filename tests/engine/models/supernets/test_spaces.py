"""The search spaces by name."""

import pytest

from strata.engine.errors import ConfigError
from strata.engine.models.supernets.spaces import space
from tests.helpers.supernet_draws import COLOUR, GREY


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
