"""Which files and folders of a set count."""

import os

import pytest

from strata.engine.data.folders import files, files_below, nearby, subfolders
from strata.engine.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Two files that count at each of two depths, among litter."""
    for place in ("", "in", "in/deep", ".git", "__MACOSX", ".ipynb_checkpoints", "in/__pycache__"):
        (tmp_path / place).mkdir(exist_ok=True)
        for name in ("b.png", "a.csv", "._a.csv", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (tmp_path / place / name).write_text(place)
    return tmp_path


def names(found, folder):
    return [str(file.relative_to(folder)) for file in found]


def test_hidden_files_and_what_systems_leave_do_not_count(folder):
    assert names(files(folder), folder) == ["a.csv", "b.png"]
    assert names(subfolders(folder), folder) == ["in"]
    assert names(nearby(folder), folder) == ["a.csv", "b.png", "in/a.csv", "in/b.png"]
    assert names(files_below(folder), folder) == [
        "a.csv",
        "b.png",
        "in/a.csv",
        "in/b.png",
        "in/deep/a.csv",
        "in/deep/b.png",
    ]


def test_links_are_followed_and_circles_are_not(folder):
    (folder / "deep").symlink_to(folder / "in/deep")
    (folder / "in/deep/up").symlink_to(folder / "in")
    assert names(subfolders(folder), folder) == ["deep", "in"]
    assert names(files_below(folder / "deep"), folder)[:2] == ["deep/a.csv", "deep/b.png"]
    assert len(files_below(folder / "in")) == 4


def test_a_link_to_nothing_is_named(folder):
    (folder / "in/c.png").symlink_to(folder / "gone.png")
    with pytest.raises(DataError, match=r"in/c\.png is a link to nothing"):
        files_below(folder)


def test_a_folder_that_may_not_be_read_is_named(folder, monkeypatch):
    real = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"in/deep cannot be read \(Permission denied\)"):
        files_below(folder)


def test_a_pipe_in_a_folder_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("x,label\n1,2\n")
    os.mkfifo(tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"b\.csv is a pipe, a socket or a device, and no data\. Move it elsewhere"):
        files(tmp_path)
