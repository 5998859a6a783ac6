"""Stages that do not go together, and settings that mean nothing."""

import pytest

from strata.engine.errors import ConfigError
from tests.helpers.small import small


@pytest.mark.parametrize(
    ("method", "words", "says"),
    [
        ("fedavg", ["transport.down=[top_k]"], r"transport.down: top_k is a stage of up alone: .* would be 0"),
        ("fedavg", ["transport.down=[noise]"], r"transport.down: noise is a stage of up alone: .*at=server"),
        ("fedavg", ["transport.down=[secure]"], r"transport.down: secure is a stage of up alone"),
        ("fedavg", ["transport.down=[clip]"], r"transport.down: clip is a stage of up alone"),
        ("fedavg", ["transport.up=[quantise,top_k]"], r"up=\[quantise,top_k\]: expected each stage once, in the order"),
        ("fedavg", ["transport.up=[top_k,low_rank]"], r"expected each stage once"),
        ("fedavg", ["transport.up=[clip,clip]"], r"expected each stage once"),
        ("fedavg", ["transport.up=[noise]"], r"noise is scaled by the norm to which changes are clipped. Put clip"),
        ("fedavg", ["transport.up=[clip,top_k]"], r"feedback=true: .* Expected transport.feedback=false with clip"),
        ("fedavg", ["transport.up=[low_rank,secure]"], r"numbers that stand in equal places"),
        ("fedavg", ["transport.up=[zip]"], r"transport.up.0='zip': expected one of clip, noise, top_k"),
        ("fedavg", ["transport.top_k.share=0"], r"transport.top_k.share=0 is out of range: expected > 0 and ≤ 1"),
        ("fedavg", ["transport.quantise.bits=1"], r"transport.quantise.bits=1 is out of range: expected ≥ 2 and ≤ 16"),
        ("fedavg", ["transport.up=[secure]", "clients.mode=async"], r"uploads come one by one"),
        ("tests.helpers.regrouping", ["transport.up=[secure]"], r"forms teams anew between rounds"),
        ("fedavg", ["attacks.share=0.5", "attacks.kind=scaled"], r"attacks.factor=1: .* nothing would change"),
        ("fedavg", ["robust.share=0.5"], r"robust.share=0.5 is out of range: expected ≥ 0 and < 0.5"),
        (
            "fedavg",
            ["robust.mean=mode"],
            r"robust.mean='mode': expected one of none, median, trimmed, krum, multi_krum",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(method, words, says):
    with pytest.raises(ConfigError, match=says):
        small(method, *words)


def test_what_goes_together_is_taken():
    words = (
        "transport.up=[clip,noise,top_k,quantise]",
        "transport.feedback=false",
        "transport.down=[low_rank,quantise]",
    )
    config = small("fedavg", *words).transport
    assert config.up == ["clip", "noise", "top_k", "quantise"]
    assert not config.keeps
    assert small("fedavg", "transport.up=[low_rank]").transport.keeps
    assert not small("fedavg", "transport.up=[quantise]").transport.keeps
