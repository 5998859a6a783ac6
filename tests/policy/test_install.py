"""What is installed is one package, ``strata``: whole, and undisturbed by others whose names its folders have."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.policy.source import FACADE_HOME, PACKAGES, ROOT

pytestmark = pytest.mark.slow

FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
INSTALLED = re.compile(r"\.(py|yaml|typed)$|/(embedded|templates)/")  # .pyc ends otherwise
RUN = "runtime=inprocess rounds=2 data.limit=600 clients.count=10 clients.participation=0.3 tracking.wandb=disabled"
LEARNING = ("agents.policy=rllib", "agents.rounds_per_update=2")  # an update within those two rounds


def isolation():
    """Build with the setuptools that is here if it knows all that pyproject.toml says; else pip fetches one."""
    try:
        known = int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        known = False
    return ("--no-build-isolation",) if known else ()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the source as it is, built in a copy: nothing that lies in build/ may get into it."""
    copy, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([*PIP, "wheel", "--no-deps", *isolation(), "--wheel-dir", made, copy], check=True)
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder that the wheel is installed into."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "install", "--no-deps", "--target", folder, wheel], check=True)
    return folder


def python(site, cwd, *words):
    """A fresh interpreter that finds what is in ``site`` before any other installation, and in ``cwd`` before that."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


def where(site, cwd, name):
    """The file that an import of that name would run."""
    program = f"from importlib.util import find_spec; print(find_spec({name!r}).origin)"
    return python(site, cwd, "-c", program).stdout.strip()


def learns(site, cwd, output):
    """Whether two rounds of HAPFL go through, and its agents learn in them."""
    done = python(site, cwd, "-m", "strata.cluster.cli", "run", "hapfl", *RUN.split(), *LEARNING, f"output={output}")
    assert done.returncode == 0, done.stderr
    (metrics,) = output.glob("*/metrics.jsonl")
    first, last = [json.loads(line)["metrics"] for line in metrics.read_text().splitlines()]
    learnt = {name for name in last if name.startswith("agents/")} - first.keys()
    return {name.split("/")[1] for name in learnt} == {"size", "intensity"}


def test_the_wheel_holds_one_package(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"strata", f"{wheel.name.split('-py3')[0]}.dist-info"}


def test_the_wheel_holds_every_module_setting_and_sample(wheel):
    home = FACADE_HOME.replace(".", "/")
    files = (path.relative_to(ROOT).as_posix() for folder in PACKAGES for path in (ROOT / folder).rglob("*"))
    wanted = {f"strata/{name}".replace(home, "strata") for name in files if INSTALLED.search(name)}
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("strata/")}
    assert inside == wanted
    assert {"strata/__init__.py", "strata/py.typed", "strata/algorithms/permfl.yaml"} <= inside


def test_it_runs_in_a_folder_that_has_its_own_envs_and_agents(site, tmp_path):
    for name in ("envs", "agents"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is somebody else')")
        assert "somebody else" in python(site, tmp_path, "-c", f"import {name}").stderr
    assert where(site, tmp_path, "strata") == str(site / "strata" / "__init__.py")
    assert learns(site, tmp_path, tmp_path / "runs")


def test_it_runs_beside_a_package_that_installs_agents(site, tmp_path):
    words = ("install", "--no-deps", "--retries", "1", "--timeout", "15", "--target", site, "openai-agents")
    done = subprocess.run([*PIP, *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"openai-agents cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    assert where(site, tmp_path, "agents") == str(site / "agents" / "__init__.py")
    assert where(site, tmp_path, "strata.agents") == str(site / "strata" / "agents" / "__init__.py")
    assert learns(site, tmp_path, tmp_path / "runs")
