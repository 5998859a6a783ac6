"""Names of data that stand for more, or for less, than a data set."""

import os

import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError


def table(folder):
    folder.mkdir()
    rows = "".join(f"{number},{number % 2}\n" for number in range(40))
    (folder / "rows.csv").write_text(f"x,label\n{rows}")


@pytest.mark.parametrize("name", [".", "..", "../mine"])
def test_the_folder_one_stands_in_is_a_folder_like_others(tmp_path, monkeypatch, name):
    table(tmp_path / "mine")
    (tmp_path / "mine" / "within").mkdir()
    monkeypatch.chdir(tmp_path / "mine" / ("within" if name == ".." else ""))
    found = load(DataConfig(name=name), 1, 0)
    assert (found.name, len(found.y)) == ("mine", 40)


@pytest.mark.parametrize("name", ["/", "//", "/.", "/tmp/.."])
def test_a_whole_file_system_is_no_data_set(name):
    with pytest.raises(DataError, match=r"expected the folder of a data set, and this is the whole file system"):
        load(DataConfig(name=name), 1, 0)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"rows\.csv: expected a file or a folder; this is a pipe"):
        load(DataConfig(name=str(tmp_path / "rows.csv")), 1, 0)


@pytest.mark.parametrize("name", ["/tmp/a/b", "./a/b", "../a", "~/a/b", "owner//name", "", "owner/"])
def test_a_folder_is_no_name_on_the_hub(name):
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"expected hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, or a file that exists"):
        load(DataConfig(name=f"hub:{name}"), 1, 0)
