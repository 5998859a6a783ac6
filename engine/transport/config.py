"""The groups ``transport``, ``robust`` and ``attacks`` of the configuration."""

from dataclasses import dataclass
from typing import Literal

from strata.engine.errors import ConfigError
from strata.engine.options import Validated, option

StageName = Literal["clip", "noise", "top_k", "low_rank", "quantise", "secure"]
PLACES = {"clip": 0, "noise": 1, "top_k": 2, "low_rank": 2, "quantise": 3, "secure": 4}
"""Where a stage stands among the others; of those in one place there may be one."""

NOT_DOWN = {
    "top_k": "a server's message is no change of something that the client has, so what is left out would be 0",
    "clip": "a server's message is a model, and no change that could be clipped",
    "noise": "noise hides what clients send; the server's own is transport.noise.at=server",
    "secure": "secure aggregation adds up what clients send",
}
"""Why a stage is for what clients send alone."""


@dataclass(frozen=True)
class TopKConfig:
    """The group ``transport.top_k``."""

    share: float = option(0.1, "share of each tensor's numbers that is sent: those of largest magnitude", gt=0, le=1)


@dataclass(frozen=True)
class LowRankConfig:
    """The group ``transport.low_rank``."""

    rank: int = option(4, "singular values that are sent of each matrix", ge=1)


@dataclass(frozen=True)
class QuantiseConfig:
    """The group ``transport.quantise``."""

    bits: int = option(8, "of each number, its sign included; rounding is drawn, without bias", ge=2, le=16)


@dataclass(frozen=True)
class ClipConfig:
    """The group ``transport.clip``."""

    norm: float = option(1.0, "L2 norm of a client's whole change to which a larger one is scaled down", gt=0)


@dataclass(frozen=True)
class NoiseConfig:
    """The group ``transport.noise``."""

    multiplier: float = option(1.0, "standard deviation σ of the noise, times the clip norm", gt=0, le=1e6)
    at: Literal["client", "server"] = option(
        "server",
        "client: each adds its own to every number it sends; server: as much in all to the sum of a cohort, whose "
        "uploads then count alike",
    )
    delta: float = option(0.0, "the δ at which ε is said; 0: one in the number of clients", ge=0, lt=1)


@dataclass(frozen=True)
class TransportConfig(Validated):
    """The group ``transport``: stages through which messages between clients and their servers go, in their order."""

    up: list[StageName] = option(
        [],
        "stages of what clients send, which act on what they changed: clip, noise, top_k or low_rank, quantise, secure",
    )
    down: list[StageName] = option([], "stages of what clients are sent: low_rank, quantise")
    feedback: bool = option(True, "top_k, low_rank: what a client did not send is added to its next change")
    top_k: TopKConfig = option(TopKConfig(), "the largest changes alone")
    low_rank: LowRankConfig = option(LowRankConfig(), "matrices as two factors, where these are smaller")
    quantise: QuantiseConfig = option(QuantiseConfig(), "fewer bits for each number")
    clip: ClipConfig = option(ClipConfig(), "changes of bounded length")
    noise: NoiseConfig = option(NoiseConfig(), "Gaussian noise, for differential privacy")

    def validate(self, path: str) -> None:
        """Refuse stages that do not go together.

        Raises:
            ConfigError: naming the stages and what was expected.
        """
        for stage in self.down:
            if stage in NOT_DOWN:
                raise ConfigError(f"{path}down: {stage} is a stage of up alone: {NOT_DOWN[stage]}. Take it out.")
        for key, stages in (("up", self.up), ("down", self.down)):
            places = [PLACES[stage] for stage in stages]
            if places != sorted(set(places)):
                raise ConfigError(
                    f"{path}{key}=[{','.join(stages)}]: expected each stage once, in the order clip, noise, top_k or "
                    "low_rank, quantise, secure."
                )
        if "noise" in self.up and "clip" not in self.up:
            raise ConfigError(
                f"{path}up=[{','.join(self.up)}]: noise is scaled by the norm to which changes are clipped. Put clip "
                "before it."
            )
        if self.keeps and "clip" in self.up:
            raise ConfigError(
                f"{path}feedback=true: what clip cuts off would come back with the next change. Expected "
                f"{path}feedback=false with clip."
            )
        if "secure" in self.up and {"top_k", "low_rank"} & set(self.up):
            raise ConfigError(
                f"{path}up=[{','.join(self.up)}]: secure aggregation adds up numbers that stand in equal places, which "
                "those of top_k and low_rank do not. Take one of them out."
            )

    @property
    def keeps(self) -> bool:
        """Whether clients keep what they did not send."""
        return self.feedback and bool({"top_k", "low_rank"} & set(self.up))


@dataclass(frozen=True)
class RobustConfig:
    """The group ``robust``: what servers take of clients' uploads for the method to average."""

    mean: Literal["none", "median", "trimmed", "krum", "multi_krum"] = option(
        "none",
        "median, trimmed: every upload's change becomes the coordinate-wise centre of all; krum, multi_krum: only "
        "those that lie closest together are taken",
    )
    share: float = option(
        0.2,
        "share of uploads that may be hostile: trimmed cuts so many at either end, krum reckons with them",
        ge=0,
        lt=0.5,
    )


@dataclass(frozen=True)
class AttacksConfig(Validated):
    """The group ``attacks``: clients that want to harm."""

    share: float = option(0.0, "share of the clients that attack, drawn from the seed", ge=0, lt=1)
    kind: Literal["sign_flip", "scaled", "label_flip"] = option(
        "sign_flip",
        "sign_flip, scaled: they upload −factor or factor times what they changed; label_flip: class y of their "
        "training rows is the last one minus y",
    )
    factor: float = option(1.0, "sign_flip, scaled: by what a change is multiplied", gt=0)

    def validate(self, path: str) -> None:
        """Refuse an attack that changes nothing."""
        if self.share and self.kind == "scaled" and self.factor == 1:
            raise ConfigError(
                f"{path}factor=1: with {path}kind=scaled nothing would change. Expected another, e.g. 10."
            )
