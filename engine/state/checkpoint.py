"""Checkpoints: all state of a federation as safetensors and JSON. Nothing that is loaded can run code.

A checkpoint is a folder ``round-000010`` with ``tensors.safetensors`` and ``state.json``: the tree of states with
tensors replaced by names, dataclasses by the names of their types, and the SHA-256 of the tensor file. It is written
beside its place and renamed into it, so it is there as a whole or not at all. One that is replaced is set aside first
and deleted last; where a process ended in between, whoever looks next puts it back.

Only types that the caller names are read back, under the names that it gives them, so that a class may move to another
module; a tree that holds another type is refused when it is saved.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from strata.engine.errors import CheckpointError, OutdatedError
from strata.engine.state.encoding import NO_TYPES, StateTypes, decoded, encoded

FORMAT = 2
RUN_FORMAT = 2  # of what :func:`save` writes, beside the form of trees
STATE, TENSORS = "state.json", "tensors.safetensors"
NAME = "round-"  # begins the name of a checkpoint's folder
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
UNABLE = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # what file systems say that cannot sync a folder
ASIDE = ".replaced-"  # begins the name of a folder that is about to be replaced


def save(
    folder: Path, round: int, tree: object, identity: Mapping[str, str], keep: int, types: StateTypes = NO_TYPES
) -> Path:
    """Write the checkpoint of one round and delete all but the ``keep`` newest.

    Args:
        folder: where checkpoints lie.
        round: the round after which it is taken.
        tree: dataclasses, dicts, lists, tuples, tensors, numbers, strings, None.
        identity: what must be equal for a run to continue from it.
        keep: checkpoints to keep.
        types: the dataclasses that may occur in it, by the names under which :func:`load` will be given them.

    Raises:
        StateError: when it holds what :func:`load` would refuse or give back as something else; says where and what.
        CheckpointError: when it cannot be written; earlier checkpoints stay as they are.
    """
    target = folder / f"{NAME}{round:06d}"
    write(target, tree, {"round": round, "run_format": RUN_FORMAT, "identity": dict(identity)}, types)
    for old in found(folder)[:-keep]:
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def write(target: Path, tree: object, header: Mapping[str, object], types: StateTypes = NO_TYPES) -> None:
    """Write a tree and some plain facts about it as a folder, which is there as a whole or not at all.

    Args:
        target: the folder; what lies there is replaced.
        tree: see :func:`save`.
        header: the facts.
        types: the dataclasses that may occur in the tree, by the names under which :func:`read` will be given them.

    Raises:
        StateError: when the tree holds what :func:`read` would refuse or give back as something else.
        CheckpointError: when it cannot be written; what was there before stays.
    """
    skeleton, tensors = encoded(tree, types)
    payload = save_tensors(tensors)
    digest = hashlib.sha256(payload).hexdigest()
    state = {"format": FORMAT, **header, "tensors_sha256": digest, "state": skeleton}
    partial = target.with_name(f".partial-{target.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial / TENSORS, payload)
        _write(partial / STATE, json.dumps(state).encode())
        _sync_folder(partial)
        _put_in_place(partial, target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(f"{target}: cannot be written: {error}. {remedy(error)}") from None


def remedy(error: OSError) -> str:
    """What to do about a checkpoint that cannot be written."""
    if error.errno in FULL:
        return "Free some space and resume the run."
    if error.errno in FORBIDDEN:
        return "Make the folder writable and resume the run."
    return "Move the run's folder to another disk and resume it there."


def _put_in_place(new: Path, target: Path) -> None:
    """Rename a folder to ``target``. At every moment the old or the new one is there as a whole, if only set aside."""
    _settle(target)
    try:
        if target.exists():
            target.rename(_aside(target))
        new.rename(target)
        _sync_folder(target.parent)
    finally:
        _settle(target)


def _settle(target: Path) -> None:
    """End a replacement, whole or half: put back what was set aside for a folder that never came, or delete it."""
    aside = _aside(target)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.is_dir():
        with suppress(OSError):  # where nothing can be written, it is as good as missing
            aside.rename(target)


def _aside(target: Path) -> Path:
    return target.parent / f"{ASIDE}{target.name}"  # unlike with_name it takes "." too


def found(folder: Path) -> list[Path]:
    """The checkpoint folders ``round-*`` in a folder, oldest first; one that was left set aside is put back before."""
    for aside in folder.glob(f"{ASIDE}{NAME}*"):
        _settle(folder / aside.name.removeprefix(ASIDE))
    return sorted(path for path in folder.glob(f"{NAME}*") if path.is_dir())


def round_of(path: Path) -> int:
    """The round after which a checkpoint was taken, by the name of its folder; -1 for another name."""
    number = path.name.removeprefix(NAME)
    return int(number) if number.isdecimal() else -1


def load(path: Path, identity: Mapping[str, str], types: StateTypes) -> object:
    """Read back the tree that :func:`save` wrote.

    Args:
        path: the checkpoint's folder.
        identity: of the run that wants to continue.
        types: the dataclasses that may occur in it, by the names under which it was saved.

    Raises:
        CheckpointError: when it is missing, damaged, of another format, or of another run.
    """

    def check(header: Mapping[str, object]) -> None:
        if header.get("run_format") != RUN_FORMAT:
            raise OutdatedError(
                f"{path}: it was made by another version of Strata (format {header.get('run_format', 1)}, expected "
                f"{RUN_FORMAT}). Continue it with that version, or start a new run."
            )
        noted = header.get("identity")
        require_same(path, noted if isinstance(noted, Mapping) else {}, identity)

    return read(path, check, types)


def require_same(path: Path, noted: Mapping[str, str], identity: Mapping[str, str]) -> None:
    """Check that two identities agree: what was ``noted`` of the run at ``path``, and that of who would go on with it.

    Raises:
        CheckpointError: naming the first key that differs, and both values.
    """
    for key in {**identity, **noted}:
        if noted.get(key) == identity.get(key):
            continue
        theirs, ours = (of.get(key, "not set") for of in (noted, identity))
        how = f"{theirs} there and {ours} here"
        if key == "data":  # two hashes would tell nobody anything
            how = "not what it was: the rows, who holds them, the teams or the delays are others"
        raise CheckpointError(
            f"{path}: it is of another run: {key} is {how}. Continue it with the settings and files that it was made "
            "with, or start a new run."
        )


def read(path: Path, check: Callable[[Mapping[str, object]], None], types: StateTypes = NO_TYPES) -> object:
    """Read back the tree that :func:`write` wrote.

    Args:
        path: its folder.
        check: is given the plain facts first, and raises where they do not fit.
        types: the dataclasses that may occur in it, by name.

    Raises:
        CheckpointError: when it is missing, damaged or of another format.
    """
    state = header_of(path)
    try:
        payload = (path / TENSORS).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: {TENSORS} is missing.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {TENSORS} cannot be read: {error}.") from None
    check(state)
    if hashlib.sha256(payload).hexdigest() != state.get("tensors_sha256"):
        raise CheckpointError(f"{path}: {TENSORS} is damaged: its SHA-256 is not the one noted in {STATE}.")
    try:
        return decoded(state["state"], load_tensors(payload), types)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: the state does not fit this version of Strata: {error}.") from None


def header_of(path: Path) -> dict[str, Any]:
    """The plain facts that :func:`write` was given, and what it noted beside them.

    Raises:
        CheckpointError: when the folder is missing, damaged or of another format.
    """
    _settle(path)
    try:
        state = json.loads((path / STATE).read_text(encoding="utf8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: {STATE} is missing.") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: {STATE} cannot be read: {error}.") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this version of Strata (format {FORMAT}).")
    return state


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where its file system can do so: some network ones cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNABLE:
            raise
    finally:
        os.close(descriptor)
