"""What would not fit is refused with the figure, before any of it is made."""

import os

import pytest
import torch
from torch import nn

from strata.engine.data import capacity
from strata.engine.data.capacity import machine_bytes, require_memory
from strata.engine.errors import ResourceError
from strata.engine.models.base import built, init_params
from strata.engine.models.config import ModelConfig
from strata.engine.models.factory import spec_of
from strata.engine.models.spec import scaled
from strata.engine.models.weighing import weighed


def test_a_machine_has_the_memory_that_it_says():
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**28 < machine_bytes() <= physical


def test_a_container_has_what_it_may_take(tmp_path, monkeypatch):
    (tmp_path / "most").write_text("1000000\n")
    (tmp_path / "any").write_text("max\n")
    monkeypatch.setattr(capacity, "LIMITS", [str(tmp_path / name) for name in ("any", "most", "none")])
    machine_bytes.cache_clear()
    try:
        assert machine_bytes() == 1_000_000
        require_memory(1e6, "a thing", "")
        with pytest.raises(ResourceError, match=r"^a thing: that takes 2 MB of memory, and this machine has 1 MB. Do"):
            require_memory(2e6, "a thing", "Do less.")
    finally:
        machine_bytes.cache_clear()


def test_a_figure_beyond_all_units_is_a_power_of_ten():
    with pytest.raises(ResourceError, match=r"that takes 10\^36 bytes of memory"):
        require_memory(4 * 10**36, "a thing", "")


def test_tensors_of_a_module_are_weighed_before_they_are_made():
    with weighed("a model", "Take less."):
        nn.Linear(8, 8)
    with weighed("a model", "Take less."), pytest.raises(ResourceError, match=r"a model, 1e\+18 values or more"):
        nn.Linear(10**9, 10**9)
    with weighed("a model", "Take less."), pytest.raises(ResourceError, match="Take less"):
        nn.ModuleList(nn.Embedding(2**24, 2**12) for _ in range(1000))  # the first of them fits, all do not
    assert torch.empty(3).shape == (3,)  # outside nothing is


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "mlp", "hidden": [10**9]},
        {"name": "mlp", "hidden": [10**9, 10**9]},
        {"name": "cnn", "width": 1e12},
        {"name": "cnn_five", "features": 10**12},
        {"name": "cnn_five_1", "width": 1e30},
        {"name": "mobilenetv3", "options": {"stage1.width": [10**9]}},
    ],
)
def test_a_model_that_no_machine_holds_is_refused(settings):
    with pytest.raises(ResourceError, match="of memory, and this machine has"):
        spec_of(ModelConfig(**settings), (3, 32, 32), 10)


def test_so_is_one_that_a_method_scales():
    spec = spec_of(ModelConfig(name="mlp", hidden=[200]), (1, 28, 28), 10)
    with pytest.raises(ResourceError, match=r"hidden"):
        init_params(scaled(spec, 1e9), 0)


def test_what_fits_is_drawn_as_before():
    spec = spec_of(ModelConfig(name="mlp", hidden=[16]), (1, 28, 28), 10)
    torch.manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        plain = spec.build()
    for name, value in built(spec, 7).state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])
