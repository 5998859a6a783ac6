"""Every setting says what it is, and every printed configuration loads back."""

import dataclasses
import operator

import pytest

from strata.engine.config.load import load_config, to_yaml
from strata.engine.config.schema import RunConfig
from strata.engine.method.find import load_method, method_names
from strata.engine.options import option
from tests.bench.baselines import ROWS, SHARED, blocks


def without_help(kind, path=""):
    """Names of the settings that have no help text."""
    for field in dataclasses.fields(kind):
        if not field.metadata.get("help"):
            yield f"{path}{field.name}"
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if dataclasses.is_dataclass(default):
            yield from without_help(default, f"{path}{field.name}.")


def test_every_setting_of_a_run_says_what_it_is():
    assert list(without_help(RunConfig)) == []


@pytest.mark.parametrize("name", method_names())
def test_every_setting_of_a_method_says_what_it_is(name):
    assert list(without_help(load_method(name).Config)) == []


def test_a_setting_without_help_is_seen():
    @dataclasses.dataclass(frozen=True)
    class Inner:
        said: int = option(1, "what it is")
        unsaid: int = 2

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Inner = option(Inner(), "the inner ones")
        silent: float = 0.5

    assert list(without_help(Outer)) == ["inner.unsaid", "silent"]


@pytest.mark.parametrize("name", method_names())
def test_the_printed_configuration_loads_back_to_the_same(name, tmp_path):
    config = load_config(name)
    path = tmp_path / "printed.yaml"
    path.write_text(to_yaml(config), encoding="utf8")
    assert load_config(str(path)) == config


@pytest.mark.filterwarnings("ignore::strata.engine.errors.StrataWarning")
@pytest.mark.parametrize(("name", "settings"), list(blocks()))
def test_all_methods_of_a_table_of_baselines_have_one_setting(name, settings):
    rows = [row for row in ROWS if name.split()[1] in row.models]
    configs = [load_config(row.source, {**SHARED, **settings, **row.own, **row.settings}) for row in rows]
    assert len(configs) > 15
    for part in (
        "data",
        "partition.name",
        "partition.alpha",
        "partition.sizes",
        "clients",
        "delays",
        "evaluation.every",
    ):
        assert len({repr(operator.attrgetter(part)(config)) for config in configs}) == 1, part
