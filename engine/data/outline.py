"""Data without their inputs: shapes, classes, and who holds which rows; what a run keeps of data that no file holds.

# N samples, C clients, M rows that clients hold
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strata.engine.data.dataset import Dataset, FederatedData
from strata.engine.data.parts import Listed, Parts
from strata.engine.errors import DataError

SIDES = ("train", "test", "validation")


@dataclass(frozen=True)
class Outline(Dataset):
    """A data set of which all is known but the inputs: ``x`` is of their shape and type, and zero.

    Attributes:
        digest: the fingerprint of the federation that it is of; see
            :attr:`strata.engine.rounds.world.World.fingerprint`.
    """

    digest: str = ""


def write_outline(path: Path, data: FederatedData, digest: str, more: Mapping[str, Any]) -> None:
    """Write what is known of data beside the inputs, and plain facts about them, as an .npz file.

    Args:
        path: the file.
        data: the data, and who holds which rows.
        digest: the fingerprint of the federation.
        more: facts that :func:`read_outline` gives back, as JSON can hold them.

    Raises:
        OSError: when it cannot be written.
    """
    dataset = data.dataset
    facts = {
        "name": dataset.name,
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "shift": dataset.shift,
        "scale": dataset.scale,
        "vocabulary": dataset.vocabulary,
        "value_range": dataset.value_range,
        "type": dataset.x.dtype.name,
        "shape": dataset.x.shape,
        "digest": digest,
        "teams": {team: [int(member) for member in members] for team, members in data.teams.items()},
        "more": dict(more),
    }
    arrays = {"y": dataset.y, "facts": np.array(json.dumps(facts))}
    for side in SIDES:
        parts = Parts.of([getattr(rows, side) for rows in data.clients])
        arrays |= {f"{side}_rows": parts.rows, f"{side}_sizes": parts.sizes}
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def read_outline(path: Path) -> tuple[FederatedData, dict[str, Any]]:
    """Data as :func:`write_outline` wrote them, with an :class:`Outline`, and the facts.

    Raises:
        DataError: when the file is damaged.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            sides = [Parts(file[f"{side}_rows"], file[f"{side}_sizes"]) for side in SIDES]
            y = file["y"]
        bounds = facts["value_range"]
        dataset = Outline(
            name=facts["name"],
            x=np.zeros(facts["shape"], facts["type"]),  # no page of it is ever touched
            y=y,
            classes=facts["classes"],
            class_names=tuple(facts["class_names"]),
            shift=facts["shift"],
            scale=facts["scale"],
            vocabulary=facts["vocabulary"],
            value_range=None if bounds is None else (bounds[0], bounds[1]),
            digest=facts["digest"],
        )
        teams = {int(team): members for team, members in facts["teams"].items()}
        return FederatedData(dataset, Listed(*sides), teams), facts["more"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected what a run keeps of its data; it cannot be read: {error}.") from None
