"""What the pages tell people to type, run or open works."""

import ast
import sys

import pytest
import torch

from strata import Federation
from strata.engine.errors import ConfigError
from tests.helpers.small import small
from tests.policy import pages
from tests.policy.source import PACKAGES, ROOT, Module, imports


@pytest.mark.parametrize(("page", "least"), [("README.md", 8), ("RESULTS.md", 8), (pages.LAUNCHES, 6)])
def test_every_command_parses(page, least):
    every = pages.commands(page)
    assert len(every) >= least
    for command in every:
        pages.check_command(command)


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_link_leads_somewhere(page):
    assert list(pages.dead_links(page)) == []


@pytest.mark.parametrize("page", pages.ROOM_PAGES)
def test_the_page_of_a_folder_is_short_and_known_to_the_first_one(page):
    lines = (ROOT / page).read_text(encoding="utf8").splitlines()
    assert 30 <= len(lines) <= 60
    assert f"({page})" in (ROOT / "README.md").read_text(encoding="utf8")


def test_programs_import_what_is_installed():
    assert len(pages.programs()) == 6
    for program in pages.programs():
        named = {found.name.split(".")[0] for found in imports(Module("program", "README.md", ast.parse(program)))}
        assert "strata" in named
        assert not named & set(PACKAGES)


def test_programs_take_from_the_engine_what_it_exports():
    assert [pages.deep_imports(program) for program in pages.programs()] == [[], [], [], [], [], []]


def test_an_import_past_the_engines_exports_is_seen():
    program = (
        "from strata.engine.options import option, check\nfrom strata.engine import Train\nimport strata.engine.tree"
    )
    assert pages.deep_imports(program) == ["strata.engine.options.option"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("run permfl rounds=5 method.no_such=1", "no_such"),
        ("run permfll", "permfl"),
        ("compare permfl fedavgg", "fedavg"),
        ("config permfl clients.count=-1", "clients.count"),
        ("launch slurm permfl rouns=5 --nodes 2", "rouns"),
    ],
)
def test_a_command_that_does_not_work_is_seen(command, says):
    with pytest.raises(ConfigError, match=says):
        pages.check_command(command)


@pytest.mark.parametrize("command", ["rum permfl", "run", "compare permfl fedavg --no-such"])
def test_words_that_do_not_parse_are_seen(command, capsys):
    with pytest.raises(SystemExit):
        pages.check_command(command)
    assert "usage" in capsys.readouterr().err


def test_a_dead_link_is_seen(tmp_path):
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "here.py").touch()
    text = "[a](here.py) [b](gone.py) [c](https://example.org) [d](../rooms) [e](here.py#part) ![f](gone.png)"
    (tmp_path / "rooms" / "README.md").write_text(text)
    assert list(pages.dead_links("rooms/README.md", tmp_path)) == ["gone.py", "gone.png"]


def test_the_readmes_program_runs(capsys):
    (program,) = [text for text in pages.programs() if "Federation.from_config" in text]
    quick = program.replace('"rounds=5"', '"rounds=2", "runtime=inprocess", "data.limit=600"')
    assert quick != program
    exec(compile(quick, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 0.")
    assert second.startswith("2 0.")


def test_the_program_with_a_schedule_of_ones_own_waits_for_four_fifths(monkeypatch, tmp_path, capsys):
    (program,) = [text for text in pages.programs() if "strata.Waiting" in text]
    fast = '"inprocess", quiet=True, clients={"count": 6}, data={"limit": 600}, tracking={"wandb": "disabled"}'
    quick = program.replace('"inprocess"', fast)
    assert quick != program
    monkeypatch.chdir(tmp_path)
    exec(compile(quick, "README.md", "exec"), {})
    rounds = capsys.readouterr().out.splitlines()[1:3]
    assert [line.split() for line in rounds] == [["1", "1.0"], ["2", "1.0"]]


def test_the_readmes_run_is_one(tmp_path, monkeypatch, capsys):
    (program,) = [text for text in pages.programs() if 'strata.run("permfl"' in text]
    fast = 'rounds=2, runtime="inprocess", quiet=True, data={"limit": 800}, tracking={"wandb": "disabled"}'
    quick = program.replace("rounds=5", fast).replace("*{", '*{"partition.min_samples": 5, ')
    assert quick != program
    monkeypatch.chdir(tmp_path)
    exec(compile(quick, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 4  # two of headings, and a row a round


def test_the_readmes_own_data_are_run(tmp_path, monkeypatch):
    (program,) = [text for text in pages.programs() if "from_arrays" in text]
    quick = program.replace("rounds=2", 'rounds=2, runtime="inprocess", quiet=True, tracking={"wandb": "disabled"}')
    assert quick != program
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(compile(quick, "README.md", "exec"), found)
    assert found["run"].finished


def test_the_readmes_environment_runs(capsys):
    (program,) = [text for text in pages.programs() if "gymnasium.make" in text]
    exec(compile(program, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("straggling ") for line in lines)


def after_a_round(method, folder, *overrides):
    """The record of one round, and the global model that a checkpoint then holds."""
    with Federation(small(method, "rounds=1", *overrides)) as federation:
        (record,) = federation
        return record, federation.rounds.snapshot().server.w


def test_the_readmes_method_runs(tmp_path, monkeypatch):
    (source,) = [text for text in pages.programs() if "METHOD" in text]
    (tmp_path / "silly").mkdir()
    (tmp_path / "silly" / "__init__.py").touch()
    (tmp_path / "silly" / "fedsilly.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    record, halved = after_a_round("silly.fedsilly", tmp_path, "method.shrink=0.5", "method.batch_size=16")
    _, whole = after_a_round("fedavg", tmp_path)
    assert record.completed == 8
    assert halved.keys() == whole.keys()
    for name in whole:
        torch.testing.assert_close(halved[name], whole[name] / 2)
    for name in ("silly", "silly.fedsilly"):
        sys.modules.pop(name)
