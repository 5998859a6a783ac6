"""What the packages export is there, and is imported only when it is used."""

import gc
import subprocess
import sys
from importlib import import_module

import pytest

import strata
import strata.engine
from strata.engine import lazy
from strata.engine.lazy import importing
from tests.helpers.small import small_overrides


@pytest.mark.parametrize("package", [strata, strata.engine], ids=["strata", "strata.engine"])
def test_every_exported_name_is_there(package):
    others = {"__version__", "data"}  # the second is a module
    assert set(package.__all__) - others == set(package.HOMES)
    for name in package.__all__:
        if name not in others:
            assert getattr(package, name) is getattr(import_module(package.HOMES[name]), name)
    assert dir(package) == sorted(package.__all__)


def test_data_of_ones_own_are_made_by_a_module():
    assert strata.data is import_module("strata.engine.data.memory")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'strata\.engine' has no attribute 'Federatoin'"):
        _ = strata.engine.Federatoin


def test_importing_them_imports_no_torch():
    code = "import sys, strata, strata.engine; assert not {'torch', 'ray', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_commands_help_needs_no_torch():
    code = "import sys, strata.cluster.cli; assert not {'torch', 'ray', 'pandas', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_loads_no_package_that_it_does_not_need(tmp_path):
    words = small_overrides("fedavg", "rounds=1", f"output={tmp_path}")
    code = (
        f"import sys; from strata.cluster.cli import main; assert main(['run', 'fedavg', *{words!r}]) == 0; "
        "needless = {'pandas', 'matplotlib', 'wandb', 'ray'} & set(sys.modules); assert not needless, needless"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.fixture
def thawed():
    yield
    gc.unfreeze()


@pytest.mark.parametrize("had_torch", [False, True])
def test_no_garbage_is_looked_for_while_modules_are_imported_nor_among_them_later(had_torch, thawed, monkeypatch):
    if not had_torch:
        monkeypatch.setattr(lazy, "TORCH", "a module that is new")
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
        monkeypatch.setitem(sys.modules, "a module that is new", gc)
    assert gc.isenabled()
    frozen = gc.get_freeze_count() - before
    assert frozen == 0 if had_torch else frozen >= len(made)


def test_looking_for_garbage_stays_off_where_it_was():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
