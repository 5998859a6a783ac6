"""Methods by their names: those that ship with Strata, and those of a user's own."""

import sys

import pytest

from strata.algorithms.fedavg import FedAvg
from strata.engine.errors import ConfigError
from strata.engine.method.find import load_method, method_module, method_names
from tests.policy.source import ROOT


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write modules of a package ``mine``, which can then be imported."""

    def written(**modules):
        (tmp_path / "mine").mkdir()
        for name, text in {"__init__": "", **modules}.items():
            (tmp_path / "mine" / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield written
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_methods_are_the_modules_of_their_folder_and_no_folders_in_it():
    files = {path.stem for path in (ROOT / "algorithms").glob("*.py")} - {"__init__"}
    assert method_names() == sorted(files)
    assert {"fedavg", "permfl"} <= files
    method_names().clear()  # a list of the caller's own
    assert method_names() == sorted(files)
    with pytest.raises(ConfigError, match="algorithm=controls: no such method"):
        load_method("controls")


def test_a_name_and_the_path_of_its_module_are_one_method():
    assert load_method("fedavg") is load_method("strata.algorithms.fedavg") is FedAvg


def test_a_method_of_ones_own_is_found_by_its_path(own):
    own(method="from strata.algorithms.fedavg import FedAvg\nclass Mine(FedAvg):\n    pass\nMETHOD = Mine\n")
    assert load_method("mine.method").__name__ == "Mine"
    assert issubclass(load_method("mine.method"), FedAvg)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "METHOD = 3",
        "METHOD = dict",
        "from strata.algorithms.fedavg import *\nMETHOD = FedAvg(FedAvgConfig(), None)",
        "METHOD = 'fedavg'",
    ],
)
def test_a_module_that_names_no_method_is_refused(own, text):
    own(method=text)
    with pytest.raises(ConfigError, match=r"algorithm=mine\.method: mine\.method must define METHOD"):
        load_method("mine.method")


@pytest.mark.parametrize("name", ["fed avg", "", ".fedavg", "fedavg.", "a..b", "3a", "a/b", "../fedavg"])
def test_what_cannot_be_a_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"expected a name or a dotted path. Found: al2gd, "):
        method_module(name)


def test_a_misspelt_name_is_told_the_closest():
    with pytest.raises(ConfigError, match=r"no such method\. Did you mean permfl\? Found: al2gd"):
        method_module("permlf")


def test_what_a_module_cannot_import_is_named(own):
    own(method="import no_such_library")
    with pytest.raises(ConfigError, match=r"cannot import mine\.method: No module named 'no_such_library'"):
        method_module("mine.method")
