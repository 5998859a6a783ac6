"""What this machine computes per second when it trains, and a device class in a file that ``delays.devices`` reads."""

import math
import re
import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from strata.engine.clock.devices import SHIPPED, Profile, device_classes
from strata.engine.data.dataset import ClientData, Dataset
from strata.engine.errors import StrataError
from strata.engine.method.length import Length
from strata.engine.method.requests import Answer, Request, Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.models.config import ModelConfig
from strata.engine.models.factory import spec_of
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.sequential import Sequential

MODELS: Mapping[str, tuple[int, ...]] = {"mlp": (1, 28, 28), "cnn": (3, 32, 32)}
"""The models that are trained, each with the shape of its inputs."""

SAMPLES, CLASSES, BATCH, LR = 512, 10, 32, 0.01
WARM_STEPS = 16
LEAST_S = 0.25  # of a repetition: long against the clock's grain, and against what else the machine does for a moment


@dataclass(frozen=True)
class Speed:
    """How fast one model was trained.

    Attributes:
        model: its name.
        flops_per_step: of a training step, as the engine counts them.
        flops_per_s: of each repetition.
    """

    model: str
    flops_per_step: float
    flops_per_s: Sequence[float]

    @property
    def median(self) -> float:
        """FLOP/s of the median repetition."""
        return statistics.median(self.flops_per_s)


def overall(speeds: Sequence[Speed]) -> float:
    """FLOP/s of a machine: the geometric mean of what was measured for each model, so that none outweighs others."""
    return math.exp(statistics.fmean(math.log(speed.median) for speed in speeds))


def measure(repeats: int, device: str) -> Iterator[Speed]:
    """Train each of :data:`MODELS` on noise, in one thread, ``repeats`` times, and say how fast it went.

    Args:
        repeats: how often; before them a few steps are made that are not counted.
        device: torch's name of where to train.
    """
    for model, shape in MODELS.items():
        trainer = Sequential(_noise(shape), device)
        flops, seconds = _trained(trainer, model, shape, WARM_STEPS)  # whatever is made at first use
        flops, seconds = _trained(trainer, model, shape, WARM_STEPS)
        steps = max(1, math.ceil(WARM_STEPS * LEAST_S / seconds))
        made = [_trained(trainer, model, shape, steps) for _ in range(repeats)]
        yield Speed(model, flops / WARM_STEPS, [work / took for work, took in made])


def _noise(shape: tuple[int, ...]) -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, *shape), np.float32)
    return Dataset("noise", x, rng.integers(0, CLASSES, SAMPLES), CLASSES)


def _trained(trainer: Sequential, model: str, shape: tuple[int, ...], steps: int) -> tuple[float, float]:
    """FLOPs that so many steps of training count, and the wall seconds that they took."""
    spec = spec_of(ModelConfig(name=model), shape, CLASSES)
    request = Train(spec, init_params(spec, 0), Sgd(LR), BATCH, Length(steps=steps))

    def step() -> Generator[Request, Answer | None, None]:
        yield request

    rows, none = np.arange(SAMPLES), np.zeros(0, np.int64)
    talk = Conversation(step(), ClientData(rows, none), 0, f"calibration with {model}")
    begun = time.perf_counter()
    _, work = drive(trainer, talk)  # ends with a copy to the processor's memory, for which a GPU is waited for
    return work.flops, time.perf_counter() - begun


def check_name(name: str) -> None:
    """Refuse a name that YAML would not read as it is written.

    Raises:
        StrataError: with what a name looks like.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or not isinstance(yaml.safe_load(name), str):
        raise StrataError(f"--name {name}: expected letters, digits and _, like my_laptop, and no word such as yes.")


def known_classes(file: Path) -> dict[str, Profile]:
    """Classes that ``file`` has, or will begin with: where there is none yet, the shipped ones.

    Raises:
        ConfigError: where the file is not one of device classes.
    """
    return device_classes(str(file) if file.exists() else "")


def write_class(file: Path, profile: Profile, source: str) -> None:
    """Put a device class at the end of a file of such classes, in place of one of the same name; all else stays.

    Args:
        file: to extend. Where there is none it begins with the shipped classes.
        profile: its name, speed and link are written.
        source: where the figures come from, in words.

    Raises:
        StrataError: where the file is not one of device classes, or cannot be written.
    """
    known = known_classes(file)
    text = (file if file.exists() else SHIPPED).read_text(encoding="utf8")
    if profile.device in known:
        text = re.sub(rf"(?m)^{profile.device}:.*\n(?:[ \t]+.*\n|\n)*", "", text + "\n")
    beside = file.with_name(f"{file.name}.new")
    try:
        beside.write_text(f"{text.rstrip()}\n\n{_written(profile, source)}", encoding="utf8")
        if device_classes(str(beside)).keys() != {*known, profile.device}:
            raise StrataError(f"{file}: it is not laid out as Strata writes it; take the class {profile.device} out.")
        beside.replace(file)
    except OSError as error:
        raise StrataError(f"--output {file}: cannot be written: {error}.") from None
    finally:
        beside.unlink(missing_ok=True)


def _written(profile: Profile, source: str) -> str:
    values = {
        "source": source,
        "flops_per_s": float(f"{profile.flops_per_s:.3g}"),
        "down_bytes_per_s": profile.down_bytes_per_s,
        "up_bytes_per_s": profile.up_bytes_per_s,
        "latency_s": profile.latency_s,
    }
    return str(yaml.safe_dump({profile.device: values}, sort_keys=False, allow_unicode=True, width=1000))
