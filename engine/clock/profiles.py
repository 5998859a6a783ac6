"""Which delay profile each client has: dealt from a mix of device classes, read from a trace, or drawn.

# N clients
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.config import DelayConfig, check_mix
from strata.engine.clock.devices import Profile, device_classes, read_trace
from strata.engine.data.apportion import largest_remainders
from strata.engine.errors import ConfigError
from strata.engine.on_demand import OnDemand
from strata.engine.seeding import generator


class Profiles(OnDemand[Profile]):
    """The profile of each client by client id, as the few kinds that there are and a column that says whose is which.

    Attributes:
        kinds: the distinct profiles, but for a speed of a client's own.
        kind_of: index into ``kinds`` of each client, ``(N,)``.
    """

    def __init__(self, kinds: Sequence[Profile], kind_of: NDArray[np.int32], drawn: "Speeds | None" = None) -> None:
        """``drawn``: gives each client a speed of its own; None: clients have that of their kind."""
        super().__init__(len(kind_of))
        self.kinds, self.kind_of, self._drawn = tuple(kinds), kind_of, drawn

    @classmethod
    def of(cls, profiles: Sequence[Profile]) -> "Profiles":
        """Profiles that are objects, as columns; what is columns already stays as it is."""
        if isinstance(profiles, Profiles):
            return profiles
        kinds = list(dict.fromkeys(profiles))
        places = {kind: place for place, kind in enumerate(kinds)}
        return cls(kinds, np.array([places[profile] for profile in profiles], np.int32))

    def made(self, place: int) -> Profile:
        """A client's profile."""
        kind = self.kinds[int(self.kind_of[place])]
        return kind if self._drawn is None else replace(kind, flops_per_s=self._drawn(place))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def availability(self) -> NDArray[np.float64]:
        """Probability that a client is there in a round, ``(N,)``."""
        return np.array([kind.availability for kind in self.kinds])[self.kind_of]

    @cached_property
    def always_there(self) -> bool:
        """Whether every client is there in every round."""
        return all(self.kinds[kind].availability >= 1 for kind in np.unique(self.kind_of))

    @property
    def devices(self) -> set[str]:
        """Names of the device classes that clients have."""
        return {self.kinds[kind].device for kind in np.unique(self.kind_of)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that the profiles follow from."""
        told = repr((self.kinds, None if self._drawn is None else vars(self._drawn)))
        return hashlib.sha256(told.encode() + self.kind_of.tobytes()).hexdigest()


class Speeds:
    """FLOP/s that are drawn for each client by itself, so that they do not depend on how many clients there are."""

    def __init__(self, config: DelayConfig, seed: int) -> None:
        """The distribution ``config.name``: lognormal, loguniform or pareto; ``seed``: of the run."""
        self._name, self._seed = config.name, seed
        self._median, self._sigma = config.median_flops_per_s, config.sigma
        self._spread, self._shape, self._cap = config.spread, config.shape, config.cap or math.inf

    def __call__(self, client: int) -> float:
        """The speed of a client."""
        rng = generator(self._seed, "delays", self._name, client)
        if self._name == "lognormal":
            slowness = float(rng.lognormal(0.0, self._sigma))
        elif self._name == "loguniform":
            slowness = self._spread ** (float(rng.random()) - 0.5)
        else:
            # Time, not speed, has the Pareto tail: stragglers are rare and extreme. Divided by its median; numpy's
            # Pareto starts at 0, not at 1.
            slowness = min(self._cap, float((1 + rng.pareto(self._shape)) / 2 ** (1 / self._shape)))
        return self._median / slowness


def client_profiles(config: DelayConfig, clients: int, seed: int, given: Sequence[Profile] | None = None) -> Profiles:
    """The profile of each client, by client id; ``given`` are those of ``delays.name=given``.

    Raises:
        ConfigError: for an unknown device class or file, or profiles that were not given, or to others.
        DataError: for a malformed trace.
    """
    if given is not None or config.name == "given":
        return _given(config, clients, given)
    drawn = None
    kind_of = np.zeros(clients, np.int32)
    if config.name == "none":
        kinds = [Profile("ideal")]
    elif config.name == "classes":
        kinds, kind_of = _from_classes(config, clients, seed)
    elif config.name == "trace":
        kinds = read_trace(config.trace)
        kind_of = (np.arange(clients) % len(kinds)).astype(np.int32)
    else:
        kinds = [_of_drawn_speed(config)]
        drawn = Speeds(config, seed)
    return Profiles([_with_overrides(kind, config) for kind in kinds], kind_of, drawn)


def _given(config: DelayConfig, clients: int, given: Sequence[Profile] | None) -> Profiles:
    if given is None or config.name != "given":
        said = "profiles were given too" if given is not None else "they were given in Python; give the same as delays="
        raise ConfigError(f"delays.name={config.name}: {said}.")
    if len(given) != clients:
        raise ConfigError(f"delays: {len(given)} profiles for {clients} clients; expected one for each.")
    return Profiles.of(given)


def _from_classes(config: DelayConfig, clients: int, seed: int) -> tuple[list[Profile], NDArray[np.int32]]:
    """Deal the mix at random, met to within one client per class (largest remainders)."""
    known = device_classes(config.devices)
    check_mix(config.classes, known, "delays.")
    names = sorted(config.classes)  # not as written: a saved configuration may come back in another order
    exact = np.array([config.classes[name] for name in names]) / sum(config.classes.values()) * clients
    dealt = np.repeat(np.arange(len(names), dtype=np.int32), largest_remainders(exact, clients))
    return [known[name] for name in names], dealt[generator(seed, "delays", "classes").permutation(clients)]


def _of_drawn_speed(config: DelayConfig) -> Profile:
    rates = config.down_bytes_per_s, config.up_bytes_per_s
    return Profile(config.name, config.median_flops_per_s, *rates, config.latency_s)


def _with_overrides(profile: Profile, config: DelayConfig) -> Profile:
    return replace(
        profile,
        jitter=config.jitter,
        jitter_scale=config.jitter_scale,
        availability=profile.availability if config.availability < 0 else config.availability,
        dropout=profile.dropout if config.dropout < 0 else config.dropout,
    )
