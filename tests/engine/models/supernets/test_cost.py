"""What an architecture costs, against the real thing and against sums worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from strata.engine.determinism import torch_scope
from strata.engine.method.length import Length
from strata.engine.method.losses import Batch, cross_entropy, mean_loss
from strata.engine.method.requests import Sgd, Train
from strata.engine.models.flop_counter import FlopCounter
from strata.engine.models.supernets import cost as module
from strata.engine.models.supernets.cost import cost, fit
from strata.engine.models.supernets.plan import body
from strata.engine.models.supernets.spaces import NAMES, space
from strata.engine.models.supernets.subnet import SubnetSpec, shapes
from strata.engine.seeding import generator
from strata.engine.training.flops import count_step_flops
from tests.helpers.supernet_draws import CLASSES, GREY, SMALL, specs

FIELDS = ("flops", "parameters", "activation_bytes", "memory_bytes")


def traced_flops(spec, batch):
    """FLOPs of a step of the network as a whole; nothing is computed on the meta device."""
    with torch_scope(0), torch.device("meta"), FlopCounter() as counter:
        x, y = torch.empty(batch, *spec.input_shape), torch.empty(batch, dtype=torch.int64)
        mean_loss(cross_entropy, spec.build().train(), Batch(x, y)).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("shape", [GREY, pytest.param((3, 32, 32), marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("name", NAMES)
def test_flops_are_those_of_the_whole_step(name, shape):
    chosen = space(name, shape)
    for architecture in (chosen.smallest(), chosen.largest(), chosen.random(0)):
        spec = SubnetSpec(chosen, architecture, shape, CLASSES)
        request = Train(spec, {}, Sgd(0.1), 6, Length(steps=1))
        batch = Batch(torch.empty(6, *shape), torch.zeros(6, dtype=torch.int64))
        # The trainer asks cost() instead of tracing, so the two would agree on anything.
        assert cost(spec, 6).flops == count_step_flops(request, batch) == traced_flops(spec, 6) > 0


def kept_bytes(spec, batch):
    """Bytes of distinct memory that a real forward pass on the CPU keeps, parameters and buffers aside."""
    module = spec.build().train()
    own = {value.untyped_storage().data_ptr() for value in (*module.parameters(), *module.buffers())}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        mean_loss(cross_entropy, module, Batch(torch.zeros(batch, *GREY), torch.zeros(batch, dtype=torch.int64)))
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for pointer, size in sizes.items() if pointer not in own)


@pytest.mark.parametrize("name", SMALL)
def test_activations_are_those_that_a_real_forward_pass_keeps(name):
    for spec in specs(name, 10):
        assert cost(spec, 6).activation_bytes == kept_bytes(spec, 6)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("batch", [1, 4, 7, 33])
def test_batches_of_any_size_cost_what_they_do_by_themselves(name, batch):
    for spec in specs(name, 3):
        try:
            expected = traced_flops(spec, batch), kept_bytes(spec, batch)
        except ValueError:  # batch norm takes no statistics of one value
            assert batch == 1
            with pytest.raises(ValueError, match="more than 1 value"):
                cost(spec, batch)
        else:
            found = cost(spec, batch)
            assert (found.flops, found.activation_bytes) == expected


@pytest.fixture
def forgotten():
    """Nothing is known of any part."""
    for kept in (module._known, cost):
        kept.cache_clear()
    yield
    for kept in (module._known, cost):
        kept.cache_clear()


def test_three_batch_sizes_are_traced_and_others_are_on_their_line(monkeypatch, forgotten):
    spec, *_ = specs(SMALL[0], 1)
    traced, sizes = module._traced, []
    monkeypatch.setattr(
        module, "_traced", lambda part, shape, *more: sizes.append(shape[0]) or traced(part, shape, *more)
    )
    found = {batch: cost(spec, batch).flops for batch in (32, 9, 4, 64, 5, 33)}
    assert set(sizes) == {32, 9, 4}
    assert found == {batch: traced_flops(spec, batch) for batch in found}


def test_what_is_no_line_over_the_batch_is_traced_at_each_size(monkeypatch, forgotten):
    spec, *_ = specs(SMALL[0], 1)
    traced = module._traced
    monkeypatch.setattr(module, "_traced", lambda part, shape, *more: bent(traced(part, shape, *more), shape[0]))
    parts = len(list(body(spec.space, spec.values, spec.input_shape))) + 1
    for batch in (9, 4, 6, 7):
        assert cost(spec, batch).flops == traced_flops(spec, batch) + batch**2 * parts


def bent(trace, batch):
    """What a part would cost whose FLOPs grew by the square of the batch besides."""
    return replace(trace, flops=trace.flops + batch**2)


@pytest.mark.parametrize("name", SMALL)
def test_parameters_and_memory(name):
    for spec in specs(name, 10):
        module = spec.build()
        parameters = sum(parameter.numel() for parameter in module.parameters())
        statistics = sum(np.prod(shape) for key, shape in shapes(spec).items() if "running_" in key)
        plain, adam = cost(spec, 6), cost(spec, 6, optimizer_values=2)
        assert plain.parameters == parameters
        assert plain.memory_bytes == 4 * (2 * parameters + statistics) + plain.activation_bytes
        assert adam.memory_bytes == plain.memory_bytes + 4 * 2 * parameters


def inverted(inputs, outputs, kernel, expansion, squeeze):
    """Parameters of an inverted residual: convolutions without bias, two values per channel and norm."""
    hidden = inputs * expansion
    few = max(8, round(hidden / 32) * 8)
    expand = inputs * hidden + 2 * hidden if expansion > 1 else 0
    excite = (hidden + 1) * few + (few + 1) * hidden if squeeze else 0
    return expand + kernel**2 * hidden + 2 * hidden + excite + hidden * outputs + 2 * outputs


def test_parameters_of_two_architectures_by_hand():
    chosen = space("mobilenetv3_small", GREY)
    smallest = SubnetSpec(chosen, chosen.smallest(), GREY, 10)
    stem, tail = 9 * 16 + 2 * 16, lambda width: 3 * width * width + 6 * width + (3 * width + 1) * 128 + 129 * 10
    blocks = inverted(16, 8, 3, 1, True) + inverted(8, 16, 3, 2, False) + inverted(16, 24, 3, 2, True)
    assert cost(smallest, 1).parameters == stem + blocks + tail(24)
    largest = SubnetSpec(chosen, chosen.largest(), GREY, 10)
    blocks = inverted(16, 16, 5, 1, True) * 2
    blocks += inverted(16, 24, 5, 4, False) + inverted(24, 24, 5, 4, False) * 2
    blocks += inverted(24, 48, 5, 4, True) + inverted(48, 48, 5, 4, True) * 2
    assert cost(largest, 1).parameters == stem + blocks + tail(48)


def one_option_smaller(spec, draw):
    """The same architecture with the previous option in one slot that is not at its first."""
    slots = [slot for slot, index in enumerate(spec.architecture) if index]
    slot = int(generator(3, "slot", draw).choice(slots))
    architecture = [index - (other == slot) for other, index in enumerate(spec.architecture)]
    return SubnetSpec(spec.space, tuple(architecture), GREY, CLASSES)


@pytest.mark.parametrize("name", SMALL)
def test_a_smaller_option_never_costs_more(name):
    for draw, spec in enumerate(list(specs(name, 60))[1:]):
        larger, smaller = cost(spec, 8), cost(one_option_smaller(spec, draw), 8)
        for field in FIELDS:
            assert getattr(smaller, field) <= getattr(larger, field)
        assert smaller != larger


@pytest.mark.parametrize("name", SMALL)
def test_the_extremes_are_far_enough_apart_for_latency_to_matter(name):
    smallest, largest = list(specs(name, 0))
    assert cost(largest, 32).flops > 5 * cost(smallest, 32).flops
    assert cost(largest, 32).activation_bytes > 3 * cost(smallest, 32).activation_bytes


@pytest.mark.parametrize("name", ["mobilenetv3", "vit"])
def test_the_full_spaces_are_costed_without_being_allocated(name):
    chosen = space(name, (3, 32, 32))
    smallest, largest = (
        cost(SubnetSpec(chosen, architecture, (3, 32, 32), 10), 32, 2)
        for architecture in (chosen.smallest(), chosen.largest())
    )
    assert all(getattr(smallest, field) < getattr(largest, field) for field in FIELDS)
    # One image of MobileNetV3-Large takes about 0.22 G multiplications (Howard et al. 2019): ours are around it.
    if name == "mobilenetv3":
        assert smallest.flops / 32 / 6 < 0.22e9 < largest.flops / 32 / 6


@pytest.mark.parametrize("name", SMALL)
def test_activations_grow_with_the_batch(name):
    for spec in specs(name, 3):
        one, two = cost(spec, 16), cost(spec, 32)
        assert two.flops == 2 * one.flops
        assert two.activation_bytes == pytest.approx(2 * one.activation_bytes, rel=0.01)
        assert two.parameters == one.parameters


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (1000, 64),
        (330, 32),
        (320, 32),
        (319, 16),
        (160, 16),
        (90, 8),
        (80, 8),
        (79, 0),
        (430, 32),
        (640, 64),
        (600, 32),
    ],
)
def test_the_batch_rule(budget, expected):
    """A step takes 10 a sample: from 32 on, halved down to 8 while over, doubled up to 64 while below 75 %."""
    assert fit(lambda batch: 10 * batch, budget, start=32, least=8, most=64) == expected


def test_doubling_waits_for_room():
    # 320 is 80 % of 400 and 50 % of 640, where twice as much fits as well.
    step = {8: 80, 16: 160, 32: 320, 64: 390}.__getitem__
    assert fit(step, 400, 32, 8, 64) == 32
    assert fit(step, 440, 32, 8, 64) == 64
