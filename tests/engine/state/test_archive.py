"""States of clients by round in one file: held against dictionaries, round by round."""

import random
import sqlite3
from contextlib import closing

import pytest
import torch

from strata.engine.errors import CheckpointError, StateError
from strata.engine.state.archive import Archived, ArchivedStates, append, prune
from strata.engine.tree import fingerprint

START = Archived("clients-1.db", -1)


def state(client, round):
    return {"w": torch.full((3,), client + round / 100), "round": round}


def loaded(folder, note):
    states = {}
    for portion in ArchivedStates(folder, note, {}).portions(4):
        states |= portion
    return states


def filled(folder, rounds, clients=20, seed=0):
    """Checkpoints of some rounds: what each noted, and what it must hold."""
    draw, note, present, kept = random.Random(seed), START, {}, {}
    for round in rounds:
        changed = {client: state(client, round) for client in draw.sample(range(clients), 6)}
        note = append(folder, note, round, changed, {})
        present = {**present, **changed}
        kept[round] = note, present
    return kept


def rows(folder):
    with closing(sqlite3.connect(folder / START.file)) as file:
        return file.execute("SELECT COUNT(*) FROM states").fetchone()[0]


def test_each_checkpoint_holds_the_latest_states_up_to_its_round(tmp_path):
    for note, expected in filled(tmp_path, range(1, 30)).values():
        assert fingerprint(loaded(tmp_path, note)) == fingerprint(expected)


def test_a_checkpoint_adds_what_has_changed_and_nothing_else(tmp_path):
    filled(tmp_path, range(1, 11))
    assert rows(tmp_path) == 10 * 6


def test_what_no_checkpoint_needs_is_deleted(tmp_path):
    kept = filled(tmp_path, range(1, 31))
    prune(tmp_path, START.file, 10, -1)
    prune(tmp_path, START.file, 28, 10)
    needed = {(client, one["round"]) for round in (28, 29, 30) for client, one in kept[round][1].items()}
    assert rows(tmp_path) == len(needed)
    for round in (28, 29, 30):
        note, expected = kept[round]
        assert fingerprint(loaded(tmp_path, note)) == fingerprint(expected)


def test_going_on_from_an_earlier_round_drops_what_came_after_it(tmp_path):
    note, present = filled(tmp_path, range(1, 10))[6]
    again = append(tmp_path, note, 8, {3: state(3, 8)}, {})
    assert fingerprint(loaded(tmp_path, again)) == fingerprint({**present, 3: state(3, 8)})


def test_a_state_that_could_not_be_restored_is_refused_and_the_file_stays(tmp_path):
    kept = filled(tmp_path, [1, 2])
    note, expected = kept[2]
    with pytest.raises(StateError, match=r"\.clients\[5\]\[who\]: a set could not be restored"):
        append(tmp_path, note, 3, {1: state(1, 3), 5: {"who": {1}}}, {})
    assert fingerprint(loaded(tmp_path, note)) == fingerprint(expected)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE states SET state = zeroblob(length(state)) WHERE client = 3", "the state of client 3 is not as it"),
        ("DELETE FROM states WHERE client = 3", "expected the states of 6 clients .* found 5 or others"),
        ("UPDATE states SET sha = zeroblob(32) WHERE client = 3", "expected the states of 6 clients"),
    ],
)
def test_damage_is_found_before_anything_is_restored(tmp_path, damage, message):
    note, _ = filled(tmp_path, [1], clients=6)[1]  # all six have a state
    with closing(sqlite3.connect(tmp_path / START.file)) as file, file:
        file.execute(damage)
    with pytest.raises(CheckpointError, match=message):
        ArchivedStates(tmp_path, note, {})


def test_a_file_that_is_missing_or_none_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=r"clients-1\.db is missing: it holds the private states"):
        ArchivedStates(tmp_path, START, {})
    (tmp_path / START.file).write_text("no database" * 100)
    with pytest.raises(CheckpointError, match="file is not a database"):
        ArchivedStates(tmp_path, START, {})


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="unable to open database file"):
        append(tmp_path / "file" / "checkpoints", START, 1, {}, {})
