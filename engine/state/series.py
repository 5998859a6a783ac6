"""The checkpoints of a run, one after the other: each holds the servers' states, and adds to the clients' what changed.

The clients' private states lie in an archive beside the checkpoints. A run that goes back to an earlier checkpoint
while a later one is there leaves that one's archive alone, and begins another.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from strata.engine.errors import CheckpointError
from strata.engine.state import archive, checkpoint
from strata.engine.state.archive import Archived, ArchivedStates
from strata.engine.state.encoding import StateTypes
from strata.engine.state.snapshot import Saved, Snapshot

ARCHIVE = re.compile(r"clients-(\d+)\.db")
NEVER = -1


class Series:
    """Writes the checkpoints of one federation, and finds where it goes on."""

    def __init__(self, types: StateTypes) -> None:
        """``types``: the dataclasses that states may hold, by name."""
        self._types = types
        self._last: tuple[Path, Archived] | None = None  # where this federation stands, and in which folder
        self._pruned = NEVER

    def save(
        self,
        folder: Path,
        capture: Callable[[int], Snapshot],
        saved: Callable[[Snapshot, Archived], Saved],
        identity: Mapping[str, str],
        keep: int,
    ) -> Path:
        """Write a checkpoint, and delete all but the ``keep`` newest; returns its folder.

        Args:
            folder: where checkpoints lie.
            capture: gives the snapshot, with those of the clients' states that were changed after a round.
            saved: makes the checkpoint of a snapshot without clients, and of where these lie.
            identity: what must be equal for a run to continue from it.
            keep: checkpoints to keep.

        Raises:
            StateError: when a state could not be restored as it is.
            CheckpointError: when it cannot be written; earlier checkpoints stay as they are.
        """
        folder = folder.absolute()
        before = self._before(folder)
        snapshot = capture(before.round)
        note = archive.append(folder, before, snapshot.round, snapshot.clients, self._types)
        whole = saved(replace(snapshot, clients={}), note)
        path = checkpoint.save(folder, snapshot.round, whole, identity, keep, self._types)
        self._last = folder, note
        self._tidy(folder, note.file)
        return path

    def load(self, path: Path, identity: Mapping[str, str]) -> tuple[Saved, ArchivedStates]:
        """A checkpoint of a run, and its clients' private states, which are read when they are asked for.

        Raises:
            CheckpointError: when it is missing, damaged, of another format, or of another run.
        """
        saved = checkpoint.load(path, identity, self._types)
        if not isinstance(saved, Saved):
            raise CheckpointError(f"{path}: it holds no federation.")
        return saved, ArchivedStates(path.absolute().parent, saved.clients, self._types)

    def went_back_to(self, path: Path, saved: Saved) -> None:
        """Take note that the federation goes on from a checkpoint that was loaded."""
        folder = path.absolute().parent
        later = [other for other in checkpoint.found(folder) if checkpoint.round_of(other) > saved.snapshot.round]
        branches = any(_archive_of(other) == saved.clients.file for other in later)
        self._last, self._pruned = None if branches else (folder, saved.clients), NEVER

    def _before(self, folder: Path) -> Archived:
        if self._last is not None and self._last[0] == folder and archive.goes_on_from(folder, self._last[1]):
            return self._last[1]
        self._pruned = NEVER
        return Archived(f"clients-{max(_archives(folder), default=0) + 1}.db", NEVER)

    def _tidy(self, folder: Path, current: str) -> None:
        """Delete what no checkpoint needs any more; what cannot be deleted now will be with the next one."""
        kept = checkpoint.found(folder)
        oldest = checkpoint.round_of(kept[0])
        others = [path for path in _archives(folder).values() if path.name != current]
        with suppress(CheckpointError, OSError):
            archive.prune(folder, current, oldest, self._pruned)
            self._pruned = oldest
            if others:
                needed = {_archive_of(path) for path in kept}
                for path in others:
                    if path.name not in needed:
                        path.unlink()


def newest(folder: Path) -> list[Path]:
    """What the newest checkpoint in a folder lies in: its own folder, and its clients' archive; empty where none is."""
    saved = checkpoint.found(folder)
    return [saved[-1], folder / str(_archive_of(saved[-1]))] if saved else []


def _archives(folder: Path) -> dict[int, Path]:
    """The archives in a folder, by number."""
    found = ((ARCHIVE.fullmatch(path.name), path) for path in folder.glob("clients-*.db"))
    return {int(match[1]): path for match, path in found if match}


def _archive_of(path: Path) -> str | None:
    """Name of the archive that a checkpoint's private states lie in; None where that cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads((path / checkpoint.STATE).read_text(encoding="utf8"))
        return str(state["state"]["fields"]["clients"]["fields"]["file"])
    return None
