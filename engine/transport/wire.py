"""The stages between clients and their servers: what is received of a message, and how many bytes it takes.

Only float tensors go through stages; numbers, text and whole numbers travel as they are. Of what a client sends each
tensor's *change* is coded, what it sends minus what it was sent in its place (itself where nothing was), and whoever
receives it adds what is decoded to what was sent. Bytes follow from shapes alone.

Secure aggregation is not carried out: results are those without it, and messages take the bytes that the protocol of
Bonawitz et al. (CCS 2017) takes: per client 2·n·a_K + (5n − 4)·a_S + m·⌈log₂ R⌉ bits for a cohort of n, keys and shares
of a_K = a_S = 256 bits, and m numbers whose sums have R values: n·(2^b − 1) + 1, with b the bits of one (32, or those
of ``quantise``). Of it the client receives 2(n − 1) keys and 2(n − 1) shares, and sends the rest.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from strata.engine.method.mirrors import changed
from strata.engine.params import Params
from strata.engine.seeding import derive, generator
from strata.engine.transport.coding import BITS_PER_BYTE, LowRank, Quantise, Stage, TopK, chosen, code
from strata.engine.transport.config import TransportConfig
from strata.engine.tree import count_bytes, leaves

KEY_BITS = SHARE_BITS = 256
NUMBER_BITS = 32


@dataclass(frozen=True)
class Line:
    """The stages of one direction.

    Attributes:
        norm: to which a change is clipped; infinite: it is not.
        deviation: standard deviation of the noise that is added to every number; 0: none is.
        stages: of compression.
        keeps: whether clients keep what they did not send.
    """

    norm: float = math.inf
    deviation: float = 0.0
    stages: tuple[Stage, ...] = ()
    keeps: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether messages arrive as they were sent."""
        return not self.stages and math.isinf(self.norm)

    def received(self, changes: Params, seed: int) -> Params:
        """What is decoded of changes, by path; draws derive from ``seed``."""
        after = self._noised(self._clipped(changes), seed)
        return {path: code(self.stages, after[path], derive(seed, path)).decoded() for path in after}

    def _clipped(self, changes: Params) -> Params:
        if math.isinf(self.norm):
            return changes
        length = norm_of(changes)
        return changes if length <= self.norm else {path: c * (self.norm / length) for path, c in changes.items()}

    def _noised(self, changes: Params, seed: int) -> Params:
        return noised(changes, self.deviation, seed) if self.deviation else changes

    def bytes(self, message: object) -> int:
        """Bytes of a message with its float tensors coded."""
        total = count_bytes(message)
        if self.stages:
            for leaf in floats_of(message):
                total += chosen(self.stages, tuple(leaf.shape), leaf.element_size())[0].bytes - leaf.nbytes
        return total


@dataclass(frozen=True)
class Wire:
    """Both directions between clients and their servers.

    Attributes:
        up, down: their stages.
        secure_bits: of each number under secure aggregation; 0: there is none.
        server_deviation: standard deviation of the noise that a server adds to the sum of its clients' changes.
    """

    up: Line = field(default_factory=Line)
    down: Line = field(default_factory=Line)
    secure_bits: int = 0
    server_deviation: float = 0.0

    def bytes_up(self, message: object, cohort: int) -> int:
        """Bytes that a client of a cohort of so many sends."""
        if not self.secure_bits:
            return self.up.bytes(message)
        tensors = floats_of(message)
        rest = count_bytes(message) - sum(leaf.nbytes for leaf in tensors)
        sums = math.ceil(math.log2(cohort * (2**self.secure_bits - 1) + 1))
        keys = 2 * KEY_BITS + (3 * cohort - 2) * SHARE_BITS
        return rest + math.ceil((keys + sums * sum(leaf.numel() for leaf in tensors)) / BITS_PER_BYTE)

    def bytes_down(self, message: object, cohort: int) -> int:
        """Bytes that a client of a cohort of so many is sent."""
        keys = 2 * (cohort - 1) * (KEY_BITS + SHARE_BITS) if self.secure_bits else 0
        return self.down.bytes(message) + keys // BITS_PER_BYTE

    def sent(self, message: Any, seed: int) -> Any:
        """What clients receive of a message of their server; draws derive from ``seed``."""
        stages = self.down.stages
        # None of it is a change of something that was sent before.
        return changed(message, None, lambda path, leaf, _: code(stages, leaf, derive(seed, path)).decoded())


def wire_of(config: TransportConfig) -> Wire:
    """The stages of a configuration that was checked."""
    up = set(config.up)
    deviation = config.noise.multiplier * config.clip.norm if "noise" in up else 0.0
    at_client = config.noise.at == "client"
    return Wire(
        up=Line(
            norm=config.clip.norm if "clip" in up else math.inf,
            deviation=deviation if at_client else 0.0,
            stages=_stages(config, config.up),
            keeps=config.keeps,
        ),
        down=Line(stages=_stages(config, config.down)),
        secure_bits=(config.quantise.bits if "quantise" in up else NUMBER_BITS) if "secure" in up else 0,
        server_deviation=0.0 if at_client else deviation,
    )


def _stages(config: TransportConfig, names: list[Any]) -> tuple[Stage, ...]:
    every: dict[str, Stage] = {
        "top_k": TopK(config.top_k.share),
        "low_rank": LowRank(config.low_rank.rank),
        "quantise": Quantise(config.quantise.bits),
    }
    return tuple(every[name] for name in names if name in every)


def floats_of(message: object) -> list[Tensor]:
    """The float tensors of a message."""
    return [leaf for _, leaf in leaves(message) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def norm_of(changes: Params) -> float:
    """The L2 norm of all numbers of some changes together."""
    return math.sqrt(sum(float(change.double().square().sum()) for change in changes.values()))


def noised(changes: Params, deviation: float, seed: int) -> Params:
    """Changes with Gaussian noise of a standard deviation in every number."""
    after = {}
    for path, change in changes.items():
        draws = generator(seed, "noise", path).standard_normal(tuple(change.shape))
        after[path] = change + torch.from_numpy(draws * deviation).to(change.dtype)
    return after
