"""Checkpoints: exact, atomic, and refused with a reason when they are not to be trusted."""

import errno
import json
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from strata.cluster.cli import main
from strata.engine.errors import CheckpointError, StateError
from strata.engine.federation import Federation
from strata.engine.state import checkpoint
from strata.engine.state.encoding import types_in
from strata.engine.tree import fingerprint
from tests.helpers.small import small, small_overrides


@dataclass(frozen=True)
class State:
    w: dict
    more: tuple
    nothing: None = None


TREE = State({"a": torch.randn(3, 2), "n": torch.arange(4)}, (1, 2.5, "x", True, [torch.zeros(0)], {7: "seven"}))
ME = {"seed": "1"}
TYPES = types_in(__name__)


def saved(tmp_path, **options):
    return checkpoint.save(tmp_path, 3, TREE, ME, **{"keep": 2, "types": TYPES, **options})


def load(path, identity=None, types=TYPES):
    return checkpoint.load(path, identity or ME, types)


def test_a_tree_comes_back_to_the_bit(tmp_path):
    back = load(saved(tmp_path))
    assert fingerprint(back) == fingerprint(TREE)
    assert back.more[5] == {7: "seven"}
    assert isinstance(back.more, tuple)
    assert isinstance(back.more[4], list)


def test_tensors_that_share_memory_are_kept_apart(tmp_path):
    w = torch.ones(3)
    back = load(checkpoint.save(tmp_path, 1, State({"a": w, "b": w}, ()), ME, 1, TYPES))
    assert torch.equal(back.w["a"], back.w["b"])


def test_only_the_newest_are_kept(tmp_path):
    for number in (1, 2, 3):
        checkpoint.save(tmp_path, number, TREE, ME, 2, TYPES)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["round-000002", "round-000003"]


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    path = saved(tmp_path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = saved(tmp_path)
    data = bytearray((path / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "tensors.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256"):
        load(path)


def test_a_torn_state_is_refused(tmp_path):
    path = saved(tmp_path)
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match=r"state.json cannot be read"):
        load(path)


def test_another_format_is_refused(tmp_path):
    path = saved(tmp_path)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "format": 99}))
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        load(path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="it is of another run: seed is 1 there and 2 here"):
        load(saved(tmp_path), {"seed": "2"})


def test_the_current_folder_holds_no_checkpoint_and_that_is_said():
    with pytest.raises(CheckpointError, match=r"state\.json is missing"):
        load(Path("."))


def test_types_that_are_not_the_methods_are_refused(tmp_path):
    path = saved(tmp_path)
    state = json.loads((path / "state.json").read_text())
    state["state"]["type"] = "subprocess:Popen"
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="subprocess:Popen, which is none of the method's"):
        load(path)


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    first = checkpoint.save(tmp_path, 1, TREE, ME, 2, TYPES)

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(CheckpointError, match=r"cannot be written.*No space left"):
        saved(tmp_path)
    assert checkpoint.found(tmp_path) == [first]
    assert fingerprint(load(first)) == fingerprint(TREE)


def folders_that_cannot_be_synced(monkeypatch, number):
    plain = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_holds_checkpoints(tmp_path, monkeypatch, number):
    folders_that_cannot_be_synced(monkeypatch, number)
    assert fingerprint(load(saved(tmp_path))) == fingerprint(TREE)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space and resume"),
        (errno.EROFS, "Make the folder writable and resume"),
        (errno.EIO, "Move the run's folder to another disk and resume"),
    ],
)
def test_what_is_advised_fits_what_went_wrong(tmp_path, monkeypatch, number, advice):
    folders_that_cannot_be_synced(monkeypatch, number)
    with pytest.raises(CheckpointError, match=advice):
        saved(tmp_path)


def test_a_kill_while_writing_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.rename", killed)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path)
    assert checkpoint.found(tmp_path) == []


def renames_that_fail(monkeypatch, error, numbers):
    plain, made = Path.rename, []

    def rename(self, target):
        made.append(target)
        if len(made) in numbers:
            raise error
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", rename)


OTHER = State({"a": torch.zeros(2)}, ())


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=repr)
def test_a_checkpoint_that_could_not_be_replaced_is_still_there(tmp_path, monkeypatch, error):
    path = saved(tmp_path)
    renames_that_fail(monkeypatch, error, {2})
    with pytest.raises((CheckpointError, KeyboardInterrupt)):
        checkpoint.save(tmp_path, 3, OTHER, ME, 2, TYPES)
    assert path.is_dir()
    assert fingerprint(load(path)) == fingerprint(TREE)


@pytest.mark.parametrize("look", [checkpoint.found, lambda folder: [folder / "round-000003"]], ids=["found", "read"])
def test_a_kill_between_old_and_new_leaves_the_old_one(tmp_path, monkeypatch, look):
    path = saved(tmp_path)
    with monkeypatch.context() as killed:
        renames_that_fail(killed, OSError("killed"), {2, 3})  # nor can it be put back
        with pytest.raises(CheckpointError):
            checkpoint.save(tmp_path, 3, OTHER, ME, 2, TYPES)
    assert not path.exists()
    assert look(tmp_path) == [path]
    assert fingerprint(load(path)) == fingerprint(TREE)
    checkpoint.save(tmp_path, 3, OTHER, ME, 2, TYPES)
    assert fingerprint(load(path)) == fingerprint(OTHER)
    assert [found.name for found in tmp_path.iterdir()] == ["round-000003"]


def test_a_kill_after_the_new_one_came_leaves_the_new_one(tmp_path):
    path, aside = saved(tmp_path), tmp_path / ".replaced-round-000003"
    path.rename(aside)
    checkpoint.save(tmp_path / "new", 3, OTHER, ME, 2, TYPES).rename(path)
    assert checkpoint.found(tmp_path) == [path]
    assert not aside.exists()
    assert fingerprint(load(path)) == fingerprint(OTHER)


def test_what_could_not_be_restored_is_not_saved(tmp_path):
    @dataclass(frozen=True)
    class Local:
        x: int

    here = r"of module tests\.engine\.state\.test_checkpoint, which could not be restored"
    with pytest.raises(StateError, match=rf"an instance of State {here}.*Define the classes"):
        saved(tmp_path, types={})
    with pytest.raises(StateError, match=rf"Local {here}.*at the top level"):
        checkpoint.save(tmp_path, 3, {"a": [Local(1)]}, ME, 2, TYPES)
    assert not list(tmp_path.iterdir())


class Pair(NamedTuple):
    a: int
    b: int


@dataclass
class Counting:
    x: int
    seen: int = field(default=0, init=False)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Pair(1, 2), r"\.w\[7\]\[1\]: a Pair "),
        ({(1, 2): 3}, r"\.w\[7\]\[1\]: a tuple as a key "),
        ({np.int64(1): 3}, r"\.w\[7\]\[1\]: a int64 as a key "),
        (Counting(1), r"\.w\[7\]\[1\]: a Counting, whose field seen "),
        (np.zeros(2), r"\.w\[7\]\[1\]: a ndarray "),
        (np.int64(1), r"\.w\[7\]\[1\]: a int64 "),
        ({1}, r"\.w\[7\]\[1\]: a set "),
        (Counting, r"\.w\[7\]\[1\]: a type "),
    ],
    ids=repr,
)
def test_what_would_not_come_back_as_it_was_is_refused_when_it_is_saved(tmp_path, part, message):
    with pytest.raises(StateError, match=message):
        checkpoint.save(tmp_path, 3, State({7: ["x", part]}, ()), ME, 2, TYPES)
    assert not list(tmp_path.iterdir())


HELPER = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Extra:
    w: dict
"""
METHOD = """
from strata.algorithms.fedavg import FedAvg, Global
from helped.states import Extra

class Helped(FedAvg):
    def init_global(self, seed):
        return Extra(super().init_global(seed).w)

    def global_step(self, g, ups, context):
        return Extra(super().global_step(Global(g.w), ups, context).w)

METHOD = Helped
"""


def test_a_run_whose_states_could_not_be_restored_ends_at_its_first_checkpoint(tmp_path, monkeypatch, capsys):
    (tmp_path / "helped").mkdir()
    (tmp_path / "helped" / "states.py").write_text(HELPER)
    (tmp_path / "helped" / "method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = small_overrides("helped.method", "method.batch_size=16", "rounds=3", "checkpoint.every=1")
    assert main(["run", "helped.method", *words, f"output={tmp_path}/runs"]) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "the state holds an instance of Extra of module helped.states" in message
    (metrics,) = (tmp_path / "runs").glob("*/metrics.jsonl")
    assert len(metrics.read_text().splitlines()) == 1
    for name in ("helped", "helped.states", "helped.method"):
        sys.modules.pop(name)


@pytest.mark.parametrize("method", ["permfl", "fedavg"])
def test_a_federation_continues_to_the_same_bits(tmp_path, method):
    with Federation(small(method, "rounds=4")) as whole:
        records = list(whole)
        expected = whole.fingerprint()
    with Federation(small(method, "rounds=4")) as first:
        first.run_round()
        first.run_round()
        path = first.save(tmp_path)
    with Federation(small(method, "rounds=4")) as second:
        second.restore(path)
        assert second.round == 2
        rest = list(second)
        assert second.fingerprint() == expected
    assert [r.scores for r in rest] == [r.scores for r in records[2:]]


def test_a_federation_with_another_configuration_refuses_it(tmp_path):
    with Federation(small("permfl")) as federation:
        path = federation.save(tmp_path)
    with (
        Federation(small("permfl", "method.gamma=1.6")) as other,
        pytest.raises(CheckpointError, match=r"another run: method\.gamma is 1\.5 there and 1\.6 here"),
    ):
        other.restore(path)
    with Federation(small("permfl", "rounds=9", "checkpoint.every=3")) as longer:
        longer.restore(path)  # more rounds, or another cadence, is the same run
    with Federation(
        small("permfl", "clients.num_cpus=0.5", "delays.mode=sleep", "delays.sleep_scale=1e-6")
    ) as elsewhere:
        elsewhere.restore(path)  # so is another placement


def test_another_file_under_the_same_name_is_another_run(tmp_path):
    trace = tmp_path / "trace.csv"
    header = "client,flops_per_s,down_bytes_per_s,up_bytes_per_s,latency_s\n"
    trace.write_text(header + "0,1e9,1e6,1e6,0.1\n")
    words = ("fedavg", "delays=trace", f"delays.trace={trace}")
    with Federation(small(*words)) as federation:
        path = federation.save(tmp_path)
    moved = trace.rename(tmp_path / "moved.csv")
    with Federation(small("fedavg", "delays=trace", f"delays.trace={moved}", f"data.root={tmp_path}")) as elsewhere:
        elsewhere.restore(path)  # the same contents under another name, which are another file's no longer
    trace.write_text(header + "0,1e8,1e6,1e6,0.1\n")
    with Federation(small(*words)) as other, pytest.raises(CheckpointError, match="another run: data"):
        other.restore(path)
