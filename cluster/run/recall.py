"""What a run keeps of objects of Python that it was given: enough to have its models without them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from strata.engine.clock.devices import Profile
from strata.engine.clock.profiles import Profiles
from strata.engine.config.given import Given
from strata.engine.data.outline import read_outline, write_outline
from strata.engine.errors import DataError, StrataError
from strata.engine.rounds.world import World

OUTLINE = "outline.npz"
"""Shapes, classes, who holds which rows, and delays, in the folder of a run that was given some of them in Python."""


def remember(given: Given, world: World, run_dir: Path) -> None:
    """Write what a run of given objects is made of, without the inputs.

    Raises:
        StrataError: when it cannot be written.
    """
    more: dict[str, Any] = {"kinds": None}
    if given.profiles is not None:
        profiles = Profiles.of(given.profiles)
        more = {"kinds": [asdict(kind) for kind in profiles.kinds], "kind_of": profiles.kind_of.tolist()}
    try:
        write_outline(run_dir / OUTLINE, world.data, world.fingerprint, more)
    except OSError as error:
        raise StrataError(
            f"{run_dir / OUTLINE}: cannot be written: {error}. Free the disk, or choose another."
        ) from None


def recalled(run_dir: Path) -> Given:
    """What :func:`remember` wrote, in place of the objects.

    Raises:
        DataError: when the file is damaged.
    """
    dealt, more = read_outline(run_dir / OUTLINE)
    try:
        if more["kinds"] is None:
            return Given(dealt=dealt)
        kinds = [Profile(**kind) for kind in more["kinds"]]
        return Given(profiles=[kinds[kind] for kind in more["kind_of"]], dealt=dealt)
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{run_dir / OUTLINE}: its delays cannot be read: {error}.") from None
