"""What a line makes of changes, and the bytes of messages both ways."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from strata.engine.transport.coding import Quantise, TopK
from strata.engine.transport.config import ClipConfig, NoiseConfig, QuantiseConfig, TransportConfig
from strata.engine.transport.wire import Line, Wire, norm_of, wire_of


@dataclass(frozen=True)
class Message:
    w: dict
    steps: int


MESSAGE = Message({"a": torch.ones(30, 10), "b": torch.ones(10)}, 3)
CHANGES = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}


def test_changes_are_clipped_as_a_whole():
    assert norm_of(CHANGES) == 5
    clipped = Line(norm=2.5).received(CHANGES, 0)
    assert [change.tolist() for change in clipped.values()] == [[1.5, 0.0], [[2.0]]]
    assert Line(norm=5.0).received(CHANGES, 0)["a"].tolist() == [3.0, 0.0]


def test_noise_has_the_deviation_of_its_multiplier_times_the_norm():
    config = TransportConfig(up=["clip", "noise"], clip=ClipConfig(0.5), noise=NoiseConfig(4.0, "client"))
    line = wire_of(config).up
    zeros = {"a": torch.zeros(20_000), "b": torch.zeros(20_000)}
    noise = line.received(zeros, 7)
    for one in noise.values():
        assert abs(float(one.mean())) < 5 * 2 / math.sqrt(20_000)
        assert abs(float(one.std()) - 2) < 5 * 2 / math.sqrt(2 * 20_000)
    assert abs(np.corrcoef(noise["a"], noise["b"])[0, 1]) < 5 / math.sqrt(20_000)
    assert torch.equal(line.received(zeros, 7)["a"], noise["a"])
    assert not torch.equal(line.received(zeros, 8)["a"], noise["a"])


def test_a_server_adds_its_noise_itself():
    wire = wire_of(TransportConfig(up=["clip", "noise"], clip=ClipConfig(0.5), noise=NoiseConfig(4.0, "server")))
    assert (wire.up.deviation, wire.server_deviation) == (0.0, 2.0)
    assert wire_of(TransportConfig(up=["clip"], noise=NoiseConfig(4.0, "server"))).server_deviation == 0.0


def test_only_float_tensors_are_coded_and_the_rest_weighs_as_before():
    quantised = Line(stages=(Quantise(8),))
    assert Line().bytes(MESSAGE) == 4 * 310 + 8
    assert quantised.bytes(MESSAGE) == (300 + 4) + (10 + 4) + 8
    assert Line(stages=(TopK(0.1),)).bytes(MESSAGE) == (4 * 30 + 38) + (4 + 2) + 8
    assert Wire(up=quantised).bytes_up(MESSAGE, 9) == quantised.bytes(MESSAGE)
    assert Wire(up=quantised).bytes_down(MESSAGE, 9) == Line().bytes(MESSAGE)


def test_what_clients_are_sent_is_coded_leaf_by_leaf():
    values = {"a": torch.linspace(-1, 1, 300).reshape(30, 10), "b": torch.linspace(0, 1, 10)}
    received = Wire(down=Line(stages=(Quantise(4),))).sent(Message(values, 3), 5)
    assert received.steps == 3
    for name, value in values.items():
        wholes = received.w[name] * 7 / value.abs().max()
        assert torch.allclose(wholes, wholes.round(), atol=1e-5)
        assert (received.w[name] - value).abs().max() <= float(value.abs().max()) / 7 * 1.001
        assert not torch.equal(received.w[name], value)


def test_secure_aggregation_weighs_what_its_paper_says():
    numbers, key, share = 310, 256, 256
    for bits, names in ((32, ["secure"]), (8, ["quantise", "secure"])):
        wire = wire_of(TransportConfig(up=names, quantise=QuantiseConfig(8)))
        for n in (2, 10, 500):
            sums = math.ceil(math.log2(n * (2**bits - 1) + 1))
            paper_bits = 2 * n * key + (5 * n - 4) * share + numbers * sums
            plain = 8 + 4 * 310 + 8  # the number of steps both ways, and the model that a client is sent
            total = wire.bytes_up(MESSAGE, n) + wire.bytes_down(MESSAGE, n)
            assert total == plain + math.ceil(paper_bits / 8)
            assert wire.bytes_down(MESSAGE, n) == 4 * 310 + 8 + 2 * (n - 1) * (key + share) // 8
