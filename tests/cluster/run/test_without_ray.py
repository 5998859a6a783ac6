"""Whole commands on a machine without Ray, from beginning to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.small import small_overrides

ROOT = Path(__file__).parent.parent.parent
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "wandb"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Block())
"""


@pytest.fixture
def strata(tmp_path):
    """Runs the command where neither Ray nor W&B can be imported; returns what it printed."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), str(ROOT)])}

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "strata.cluster.cli", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    missing = subprocess.run([sys.executable, "-c", "import ray"], env=environment, capture_output=True, check=False)
    assert b"blocked" in missing.stderr
    return run


def test_a_run_saves_and_resumes(strata, tmp_path):
    strata("run", "fedavg", *small_overrides("fedavg", "rounds=2", "checkpoint.every=1", f"output={tmp_path}/runs"))
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert (run_dir / "checkpoints" / "round-000002").is_dir()
    assert "Resumed after round 2" in strata("run", f"resume={run_dir}", "rounds=3")
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 3
    assert not (run_dir / "agents").exists()


@pytest.mark.exhaustive
def test_methods_are_compared(strata, tmp_path):
    methods = ("permfl", "fedavg", "fedprox", "hsgd")
    out = strata("compare", *methods, *small_overrides("x", "rounds=1", f"output={tmp_path}/runs"))
    assert all(name in out.split("after the last round")[1] for name in methods)


def test_a_rule_decides(strata, tmp_path):
    words = ("rounds=2", "checkpoint.every=1", "agents.policy=greedy", f"output={tmp_path}/runs")
    strata("run", "fedavg", *small_overrides("fedavg", *words))
    (run_dir,) = (tmp_path / "runs").iterdir()
    strata("run", f"resume={run_dir}", "rounds=3")
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["round"] == 3
    assert "agents/kept" in last["metrics"]
