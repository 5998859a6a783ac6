"""Places that cannot be written are found out before anything else is done."""

from pathlib import Path

import pytest

from strata.cluster.cli import main
from strata.cluster.places import require_file, require_folder, tidied
from strata.engine.errors import StrataError
from tests.helpers.small import small_overrides


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path):
    held = tmp_path / "held"
    held.write_text("kept")
    require_file("--svg", held)
    require_file("--svg", tmp_path / "new")
    require_file("--svg", Path("/dev/null"))
    assert held.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [held]


def test_whether_a_folder_can_be_made_is_found_out_and_nothing_left(tmp_path):
    require_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    require_folder(tmp_path / "empty")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
    (tmp_path / "empty").rmdir()
    (tmp_path / "file").touch()
    with pytest.raises(StrataError, match="file/below: nothing can be written there"):
        require_folder(tmp_path / "file" / "below")


def test_what_was_made_on_the_way_to_a_folder_stays_if_it_is_used(tmp_path):
    with tidied(tmp_path / "a" / "b" / "c"):
        (tmp_path / "a" / "b" / "c").mkdir(parents=True)
        (tmp_path / "a" / "held").touch()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "held"]


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_run_that_is_refused_leaves_no_folder(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([command, "fedavg", "runtime=inprocess", "output=new/runs", "data.limit=30"]) == 1
    assert "partition.min_samples=10" in "".join(capsys.readouterr())
    assert list(Path().iterdir()) == []


def long(*words):
    return [*words, *small_overrides("fedavg", "output=runs")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (long("run", "fedavg", "--svg", "folder"), "--svg folder: it cannot be written: "),
        (long("run", "fedavg", "--svg", "none/a.svg"), "--svg none/a.svg: there is no folder none."),
        (long("compare", "fedavg", "--svg", "folder"), "--svg folder: it cannot be written: "),
        (["data", "--plot", "folder"], "--plot folder: it cannot be written: "),
        (["data", "--plot", "none/a.png"], "--plot none/a.png: there is no folder none."),
        (["calibrate", "--name", "mine", "--output", "folder"], "--output folder: it cannot be written: "),
    ],
)
def test_nothing_is_done_before(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {says}")
    assert not out
    assert list(Path().iterdir()) == [Path("folder")]
