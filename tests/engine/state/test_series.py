"""Checkpoints of a run one after the other: each writes what has changed, and every one that is kept can be resumed."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from strata.engine.errors import CheckpointError, OutdatedError
from strata.engine.federation import Federation
from tests.helpers.small import small

WORDS = ("clients.participation=0.25", "rounds=12", "checkpoint.keep=3")


def federation(*words, method="lg_fedavg"):
    return Federation(small(method, *WORDS, *words))


def rows(path):
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT client, round FROM states ORDER BY round, client").fetchall()


def archives(folder):
    return sorted(path.name for path in folder.glob("clients-*"))


def test_each_checkpoint_writes_the_clients_that_were_called_since_the_one_before(tmp_path):
    with federation("checkpoint.keep=100") as run:
        called = []
        for record in run:
            run.save(tmp_path)
            called += [(client, run.round) for client in sorted(record.calls.client.tolist())]
            if run.round == 6:
                break
    assert rows(tmp_path / "clients-1.db") == called
    assert len(called) == 12


def test_every_checkpoint_that_is_kept_goes_on_to_the_same_end(tmp_path):
    with federation() as run:
        paths = [run.save(tmp_path) for _ in run]
        expected = run.fingerprint()
    kept = [path for path in paths if path.exists()]
    assert len(kept) == 3
    assert archives(tmp_path) == ["clients-1.db"]
    for path in kept:
        with federation() as again:
            again.restore(path)
            list(again)
            assert again.fingerprint() == expected


def test_states_that_no_checkpoint_needs_are_deleted(tmp_path):
    with federation() as run:
        for _ in run:
            run.save(tmp_path)
        states = run.rounds.snapshot().clients
    written = rows(tmp_path / "clients-1.db")
    latest = {client: round for client, round in written if round <= 10}  # the oldest that is left
    assert sorted(written) == sorted({(c, r) for c, r in latest.items()} | {(c, r) for c, r in written if r > 10})
    assert {client for client, _ in written} == set(states)


def test_a_run_that_goes_back_leaves_the_later_checkpoint_alone(tmp_path):
    with federation("checkpoint.keep=9") as run:
        for _ in range(3):
            run.run_round()
        early = run.save(tmp_path)
        run.run_round()
        late, expected = run.save(tmp_path), run.fingerprint()["models"]
        run.restore(early)
        run.run_round()
        run.run_round()
        run.save(tmp_path)
        assert archives(tmp_path) == ["clients-1.db", "clients-2.db"]
        run.restore(late)
        assert run.fingerprint()["models"] == expected


def test_a_run_that_was_killed_goes_on_in_the_same_archive(tmp_path):
    with federation() as run:
        run.run_round()
        path = run.save(tmp_path)
        run.run_round()
        run.save(tmp_path / "elsewhere")
        list(run)
        expected = run.fingerprint()
    with closing(sqlite3.connect(tmp_path / "clients-1.db")) as file, file:  # a save that was cut off after its states
        file.execute("INSERT INTO states SELECT client + 1, 2, sha, state FROM states")
    with federation() as again:
        again.restore(path)
        for _ in again:
            saved = again.save(tmp_path)
        assert again.fingerprint() == expected
    assert archives(tmp_path) == ["clients-1.db"]
    with federation() as third:
        third.restore(saved)
        assert third.fingerprint() == expected


def test_an_archive_that_no_checkpoint_needs_is_deleted(tmp_path):
    with federation("checkpoint.keep=1") as run:
        run.run_round()
        run.save(tmp_path)
    with federation("checkpoint.keep=1") as fresh:  # not resumed: the folder is used again
        fresh.run_round()
        fresh.run_round()
        fresh.save(tmp_path)
    assert archives(tmp_path) == ["clients-2.db"]


def test_a_folder_that_was_emptied_is_filled_again(tmp_path):
    with federation() as run:
        run.run_round()
        run.save(tmp_path / "checkpoints")
        shutil.rmtree(tmp_path / "checkpoints")
        run.run_round()
        path, expected = run.save(tmp_path / "checkpoints"), run.fingerprint()
    with federation() as again:
        again.restore(path)
        assert again.fingerprint() == expected


def test_damaged_states_leave_the_federation_as_it_was(tmp_path):
    with federation() as run:
        run.run_round()
        path = run.save(tmp_path)
        run.run_round()
        before = run.fingerprint()
        with closing(sqlite3.connect(tmp_path / "clients-1.db")) as file, file:
            file.execute("UPDATE states SET state = zeroblob(10)")
        with pytest.raises(CheckpointError, match="is damaged: the state of client"):
            run.restore(path)
        assert run.fingerprint() == before


def test_two_federations_in_one_folder_keep_checkpoints_that_can_be_restored(tmp_path):
    with federation("checkpoint.keep=1") as one, federation("checkpoint.keep=1") as other:
        for run in (one, other, other):
            run.run_round()
            run.save(tmp_path)
        one.run_round()
        one.run_round()
        path, expected = one.save(tmp_path), one.fingerprint()
    with federation() as again:
        again.restore(path)
        assert again.fingerprint() == expected


def test_other_files_of_a_like_name_are_left_alone(tmp_path):
    (tmp_path / "clients-old.db").write_text("a copy of one's own")
    with federation() as run:
        run.run_round()
        run.save(tmp_path)
    assert archives(tmp_path) == ["clients-1.db", "clients-old.db"]


def test_what_was_written_last_is_never_deleted(tmp_path):
    with federation("checkpoint.keep=1") as run:
        run.run_round()
        early = run.save(tmp_path / "early")
        for _ in range(3):
            run.run_round()
        run.save(tmp_path)
        run.restore(early)
        run.run_round()
        assert run.save(tmp_path).is_dir()


def test_a_checkpoint_of_another_version_says_so_and_no_more(tmp_path):
    with federation() as run:
        run.run_round()
        path = run.save(tmp_path)
        state = json.loads((path / "state.json").read_text())
        del state["run_format"]
        (path / "state.json").write_text(json.dumps(state))
        with pytest.raises(
            OutdatedError, match=r"another version of Strata \(format 1, expected 2\)\. Continue it with"
        ):
            run.restore(path)
