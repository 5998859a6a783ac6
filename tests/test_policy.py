"""Rules about the source itself: who may import whom, and what every file owes its readers."""

import ast
import dataclasses
import re
import shlex
import sys
import warnings
from pathlib import Path

import pytest
import torch

from strata.engine.config.load import load_config, to_yaml
from strata.engine.config.schema import RunConfig
from strata.engine.errors import StrataWarning
from strata.engine.federation import Federation
from strata.engine.method.find import load_method, method_names
from tests.helpers.small import small

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "algorithms", "agents", "envs", "cluster")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ALLOWED = {
    "engine": {"engine"},
    "algorithms": {"engine", "algorithms"},
    "agents": {"engine", "agents"},
    "envs": {"engine", "envs"},
    "cluster": {"engine", "algorithms", "agents", "envs", "cluster"},
}
ONLY_IN = {
    "ray": {
        "engine/actors.py",
        "engine/ray_backend.py",
        "envs/multi_agent.py",
        *(
            f"agents/{name}.py"
            for name in ("actor_critic", "decomposition", "episodes", "learners", "learnt", "virtual")
        ),
    },
    "wandb": {"cluster/tracking.py"},
    "omegaconf": {"engine/config/load.py"},
    "difflib": {"engine/suggest.py"},
    "pydantic": {"engine/options.py"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards_only(path):
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
    assert ours <= ALLOWED[package], f"{path} imports {ours - ALLOWED[package]}"
    for library, places in ONLY_IN.items():
        if library in {name.split(".")[0] for name in imported(path)}:
            assert str(path.relative_to(ROOT)) in places, f"{path} imports {library}"


@pytest.mark.parametrize("path", sorted((ROOT / "algorithms").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_a_docstring_that_begins_with_a_symbol_writes_it_as_its_module_does(path):
    tree = ast.parse(path.read_text(encoding="utf8"))
    table = ast.get_docstring(tree) or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            # One capital letter, which is a symbol where it is not the article; with an arrow it is what is computed.
            begins = re.match(r"(?!A [a-z])([A-Z])(?!\w)( ←)?", ast.get_docstring(node) or "")
            if begins:
                symbol, arrow = begins.groups(default="")
                assert re.search(rf"(?<!\w){symbol}(?!\w){arrow}", table), f"{path}: {node.name}: {begins.group()}"


def test_methods_leave_threads_to_the_engine():
    for path in (ROOT / "algorithms").glob("*.py"):
        text = path.read_text(encoding="utf8")
        assert "single_thread" not in text, f"{path} sets the number of threads"
        assert "num_threads" not in text, f"{path} sets the number of threads"


def test_methods_leave_the_modes_of_modules_to_the_trainer():
    for path in (ROOT / "algorithms").glob("*.py"):
        assert not re.search(r"\.(eval|train)\(\)", path.read_text(encoding="utf8")), f"{path} changes a module's mode"


def test_the_rule_sees_an_upward_import(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from strata.cluster.cli import main\n")
    assert "strata.cluster.cli" in imported(bad)


def test_every_setting_says_what_it_is():
    def check(kind, path):
        for field in dataclasses.fields(kind):
            assert field.metadata.get("help"), f"{path}{field.name} has no help text"
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            if dataclasses.is_dataclass(default):
                check(default, f"{path}{field.name}.")

    check(RunConfig, "")
    for name in method_names():
        check(load_method(name).Config, f"{name}: method.")


@pytest.mark.parametrize("name", method_names())
def test_the_printed_configuration_loads_back_to_the_same(name, tmp_path):
    config = load_config(name)
    path = tmp_path / "printed.yaml"
    path.write_text(to_yaml(config), encoding="utf8")
    assert load_config(str(path)) == config


def test_nothing_loads_pickles_or_names_a_registry():
    hosts = re.compile("py" + r"pi\.org|python" + r"hosted\.org")
    for path in [*SOURCES, *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), *ROOT.glob("*.md")]:
        text = path.read_text(encoding="utf8")
        assert not hosts.search(text), f"{path} names a package registry"
        for call in ("pickle.load", "torch.load(", "allow_pickle=True"):
            assert call not in text, f"{path} unpickles"


@pytest.mark.parametrize("page", ["README.md", "RESULTS.md"])
def test_every_command_of_the_pages_parses(page):
    from strata.cluster.cli import _parse, _parser
    from strata.cluster.commands.entries import resolve

    commands = re.findall(r"^strata (.+)$", (ROOT / page).read_text(encoding="utf8"), re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command, comments=True)
        parsed = _parse(_parser(), words)
        settings = [word for word in words[2:] if "=" in word]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StrataWarning)  # lambda_team=20 is outside the theorems, and says so
            if words[0] == "compare" and not parsed.report:
                resolve(parsed.words)
            elif words[0] in ("run", "config", "train-agents") and not re.match(r"resume=|.*\.yaml$", words[1]):
                load_config(words[1], settings)


def readme_programs():
    return re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf8"), re.DOTALL)


def test_the_readmes_program_runs(capsys):
    (program,) = [text for text in readme_programs() if "Federation.from_config" in text]
    quick = program.replace('"rounds=5"', '"rounds=2", "runtime=inprocess", "data.limit=600"')
    assert quick != program
    exec(compile(quick, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 0.")
    assert second.startswith("2 0.")


def test_the_readmes_environment_runs(capsys):
    (program,) = [text for text in readme_programs() if "gymnasium.make" in text]
    exec(compile(program, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("straggling ") for line in lines)


def test_the_readmes_method_runs(tmp_path, monkeypatch):
    (source,) = [text for text in readme_programs() if "METHOD" in text]
    (tmp_path / "silly").mkdir()
    (tmp_path / "silly" / "__init__.py").touch()
    (tmp_path / "silly" / "fedsilly.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Federation(small("silly.fedsilly", "rounds=1", "method.shrink=0.5", "method.batch_size=16")) as silly:
        (record,) = silly
        halved = silly._backend.snapshot().server.w
    with Federation(small("fedavg", "rounds=1")) as fedavg:
        list(fedavg)
        whole = fedavg._backend.snapshot().server.w
    assert record.completed == 8
    for name in whole:
        torch.testing.assert_close(halved[name], whole[name] / 2)
    sys.modules.pop("silly.fedsilly")
