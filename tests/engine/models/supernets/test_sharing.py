"""Weight sharing: slices, their inverses, fusion, and that a subnet computes what the sliced supernet would."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from strata.engine.models.supernets.sharing import conflict, delta, extract, fuse, merge, region, slice_like
from strata.engine.models.supernets.space import HEAD_SIZE
from strata.engine.models.supernets.spaces import space
from strata.engine.models.supernets.subnet import SubnetSpec, shapes, supernet_params, supernet_spec
from strata.engine.params import weighted_mean
from strata.engine.seeding import derive
from strata.engine.tree import fingerprint
from tests.helpers.supernet_draws import CLASSES, GREY, SMALL, equal, moved, specs, weights


def mask_of(whole, part):
    """Ones where the slice lies, written down axis by axis."""
    mask = np.ones(whole, bool)
    for axis, (large, small) in enumerate(zip(whole, part, strict=True)):
        first = (large - small) // 2 if len(whole) == 4 and axis in (2, 3) else 0
        inside = np.array([first <= index < first + small for index in range(large)])
        mask &= inside.reshape([-1 if other == axis else 1 for other in range(len(whole))])
    return mask


def test_regions():
    assert region((8, 4, 5, 5), (6, 4, 3, 3)) == (slice(0, 6), slice(0, 4), slice(1, 4), slice(1, 4))
    assert region((8, 1, 7, 7), (8, 1, 3, 3))[2:] == (slice(2, 5), slice(2, 5))
    assert region((10, 64), (10, 32)) == (slice(0, 10), slice(0, 32))
    assert region((), ()) == ()
    for whole, part in [((4,), (5,)), ((4, 4), (4,))]:
        with pytest.raises(ValueError, match="no slice"):
            region(whole, part)


@pytest.mark.parametrize("name", SMALL)
def test_extract_takes_what_the_mask_shows(name):
    w = weights(name)
    for spec in specs(name, 10):
        for key, value in extract(w, spec).items():
            shown = w[key].numpy()[mask_of(w[key].shape, value.shape)]
            np.testing.assert_array_equal(value.numpy().ravel(), shown)


@pytest.mark.parametrize("name", SMALL)
def test_extract_and_merge_are_inverse_on_the_slice(name):
    w = weights(name)
    before = fingerprint(w)
    for number, spec in enumerate(specs(name)):
        part = extract(w, spec)
        assert {key: tuple(value.shape) for key, value in part.items()} == dict(shapes(spec))
        assert all(value.is_contiguous() for value in part.values())
        assert equal(merge(w, part), w)
        trained = moved(part, number)
        kept = fingerprint(trained)
        merged = merge(w, trained)
        assert equal(extract(merged, spec), trained)
        for key, value in merged.items():
            outside = ~mask_of(w[key].shape, trained[key].shape) if key in trained else np.ones(w[key].shape, bool)
            np.testing.assert_array_equal(value.numpy()[outside], w[key].numpy()[outside])
        assert fingerprint(trained) == kept
    assert fingerprint(w) == before


def test_what_is_extracted_does_not_share_memory():
    w = weights("vit_small")
    spec = list(specs("vit_small", 0))[1]  # the largest: every slice is the whole tensor
    for value in extract(w, spec).values():
        value.zero_()
    assert equal(w, weights("vit_small"))


@pytest.mark.parametrize("name", SMALL)
def test_slices_are_nested(name):
    # A smaller option everywhere is a slice of the slice: prefixes of prefixes, centres of centres.
    w = weights(name)
    drawn = list(specs(name))
    for a, b in pairwise(drawn):
        both = [tuple(pick(pair) for pair in zip(a.architecture, b.architecture, strict=True)) for pick in (min, max)]
        smaller, larger = (SubnetSpec(a.space, chosen, GREY, CLASSES) for chosen in both)
        assert equal(extract(extract(w, larger), smaller), extract(w, smaller))


@pytest.mark.parametrize("name", SMALL)
def test_fusion_against_explicit_masks(name):
    w = weights(name)
    before = fingerprint(w)
    drawn = list(specs(name))
    for first in range(0, len(drawn) - 3, 3):
        chosen = drawn[first : first + 3]
        parts = [moved(extract(w, spec), derive(1, first, number)) for number, spec in enumerate(chosen)]
        samples = [7, 20, 13]
        fused = fuse(w, parts, samples)
        for key, value in w.items():
            expected = value.numpy().astype("f8")
            for part, n in zip(parts, samples, strict=True):
                if key in part:
                    mask = mask_of(value.shape, part[key].shape)
                    full = np.zeros(value.shape)
                    full[mask] = part[key].numpy().ravel()
                    expected = expected + n / 40 * mask * (full - value.numpy())
            np.testing.assert_allclose(fused[key].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert fingerprint(w) == before


def test_fusing_unchanged_subnets_changes_nothing():
    w = weights("mobilenetv3_small")
    parts = [extract(w, spec) for spec in specs("mobilenetv3_small", 3)]
    fused = fuse(w, parts, [1.0] * 5)
    for key, value in w.items():
        everywhere = all(key in part and part[key].shape == value.shape for part in parts)
        # Where all hold the whole tensor it is a mean of equal tensors, which rounds; elsewhere nothing may move.
        torch.testing.assert_close(fused[key], value, **({} if everywhere else {"rtol": 0, "atol": 0}))


def test_fusion_of_whole_networks_is_the_weighted_mean():
    chosen = space("vit_small", GREY)
    fixed = chosen.only(chosen.random(4))
    w = supernet_params(fixed, GREY, CLASSES, 0)
    spec = SubnetSpec(fixed, fixed.largest(), GREY, CLASSES)
    assert equal(extract(w, spec), w)
    parts = [moved(w, seed) for seed in range(3)]
    mean = weighted_mean(parts, [1, 2, 3])
    for key, value in fuse(w, parts, [1, 2, 3]).items():
        torch.testing.assert_close(value, mean[key], rtol=0, atol=0)


def test_delta_is_taken_against_the_supernet_at_the_slice():
    w = weights("vit_small")
    spec = next(specs("vit_small"))
    part = moved(extract(w, spec), 0)
    change, there = delta(w, part), slice_like(w, part)
    for key, value in part.items():
        torch.testing.assert_close(change[key], value - there[key], rtol=0, atol=0)
    assert equal(dict(there), extract(w, spec))


def test_what_does_not_fit_is_refused():
    w = weights("vit_small")
    with pytest.raises(ValueError, match="cannot fuse 0 subnets"):
        fuse(w, [], [])
    with pytest.raises(ValueError, match="sum to 0"):
        fuse(w, [{}], [0.0])
    with pytest.raises(ValueError, match=r"squeeze.*another search space"):
        merge(w, extract(weights("mobilenetv3_small"), next(specs("mobilenetv3_small"))))
    with pytest.raises(ValueError, match=r"head\.weight.*no slice"):
        merge(w, {"head.weight": torch.zeros(11, 128)})


def norm(w, prefix, x, channels):
    statistics = (w[f"{prefix}.{key}"][:channels] for key in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *statistics, training=False)


def sliced_inverted_residual(w, prefix, x, width, kernel, expansion):
    """Block 2 or later of a stage with squeeze-and-excite, as arithmetic on slices of the supernet's weights."""
    hidden = expansion * width
    y = F.conv2d(x, w[f"{prefix}.expand.conv.weight"][:hidden, :width])
    y = F.hardswish(norm(w, f"{prefix}.expand.norm", y, hidden))
    depthwise = w[f"{prefix}.depthwise.conv.weight"][:hidden]
    edge = (depthwise.shape[2] - kernel) // 2
    y = F.conv2d(y, depthwise[:, :, edge : edge + kernel, edge : edge + kernel], padding=kernel // 2, groups=hidden)
    y = F.hardswish(norm(w, f"{prefix}.depthwise.norm", y, hidden))
    few = max(8, round(hidden / 32) * 8)
    reduce, expand = (w[f"{prefix}.squeeze.{layer}.weight"][:, :, 0, 0] for layer in ("reduce", "expand"))
    s = F.relu(y.mean((2, 3)) @ reduce[:few, :hidden].T + w[f"{prefix}.squeeze.reduce.bias"][:few])
    s = F.hardsigmoid(s @ expand[:hidden, :few].T + w[f"{prefix}.squeeze.expand.bias"][:hidden])
    y = F.conv2d(y * s[:, :, None, None], w[f"{prefix}.project.conv.weight"][:width, :hidden])
    return x + norm(w, f"{prefix}.project.norm", y, width)


@pytest.mark.parametrize(("width", "kernel", "expansion"), list(product((24, 48), (3, 5), (2, 3, 4))))
def test_a_convolution_block_computes_what_the_sliced_supernet_would(width, kernel, expansion):
    w = weights("mobilenetv3_small")
    chosen = {"stage3.width": width, "stage3.kernel": kernel, "stage3.expansion": expansion}
    module = subnet("mobilenetv3_small", chosen, w).get_submodule("features.stage3.block2")
    x = torch.linspace(-1, 1, 3 * width * 16).reshape(3, width, 4, 4)
    expected = sliced_inverted_residual(w, "features.stage3.block2.residual", x, width, kernel, expansion)
    torch.testing.assert_close(module(x), expected)


def sliced_attention(w, prefix, tokens, heads):
    """One attention layer in numpy, head by head."""
    width = heads * HEAD_SIZE

    def project(which, inputs):
        weight = w[f"{prefix}.{which}.weight"].numpy()[:width, :width]
        return inputs @ weight.T + w[f"{prefix}.{which}.bias"].numpy()[:width]

    q, k, v = (project(which, tokens) for which in "qkv")
    mixed = np.zeros_like(q)
    for head in range(heads):
        own = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
        scores = np.exp(q[..., own] @ k[..., own].swapaxes(1, 2) / np.sqrt(HEAD_SIZE))
        mixed[..., own] = scores / scores.sum(2, keepdims=True) @ v[..., own]
    return project("project", mixed)


@pytest.mark.parametrize("width", [16, 24, 32])
def test_attention_computes_what_the_sliced_supernet_would(width):
    w = weights("vit_small")
    module = subnet("vit_small", {"stage2.width": width}, w).get_submodule("features.stage2.block2.attention")
    tokens = torch.linspace(-1, 1, 2 * 9 * width).reshape(2, 9, width).sin()
    expected = sliced_attention(w, "features.stage2.block2.attention", tokens.numpy(), width // HEAD_SIZE)
    torch.testing.assert_close(module(tokens), torch.from_numpy(expected))


def test_the_supernet_itself_is_its_largest_subnet():
    for name in SMALL:
        w = weights(name)
        whole, cut = supernet_spec(space(name, GREY), GREY, CLASSES).build().eval(), subnet(name, {}, w)
        whole.load_state_dict(w, strict=False)
        x = torch.linspace(-1, 1, 2 * 784).reshape(2, *GREY)
        with torch.no_grad():
            torch.testing.assert_close(cut(x), whole(x), rtol=0, atol=0)


def subnet(name, chosen, w):
    """The largest architecture but for the options given, as a module with the weights extracted for it."""
    searched = space(name, GREY)
    architecture = [
        slot.options.index(chosen[slot.name]) if slot.name in chosen else len(slot.options) - 1
        for slot in searched.slots
    ]
    spec = SubnetSpec(searched, tuple(architecture), GREY, CLASSES)
    module = spec.build().eval()
    module.load_state_dict(extract(w, spec), strict=False)
    return module.requires_grad_(False)


def test_conflict_counts_tensors_that_point_away():
    change = {
        name: torch.tensor(values) for name, values in {"a": [1.0, 0.0], "b": [1.0, 1.0], "c": [0.0, 2.0]}.items()
    }
    aggregate = {
        "a": torch.tensor([-1.0, 9.0, 9.0]),
        "b": torch.tensor([-1.0, 2.0]),
        "c": torch.zeros(2),
        "d": change["a"],
    }
    assert conflict(change, aggregate) == pytest.approx(1 / 3)  # b agrees on the whole, c is orthogonal
