"""Commands in places that people find themselves in: terminals of few letters, folders that are gone."""

import os
import subprocess
import sys

import pytest

from strata.cluster.cli import main
from tests.helpers.small import small_overrides


def strata(*words, cwd, **environment):
    """What the command printed in a process of its own, and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "strata.cluster.cli", *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--help"], "FedAvg|PerMFL"), (["config", "permfl"], "algorithm: permfl"), (["list"], "fedavg")],
)
def test_letters_that_a_terminal_lacks_cost_no_command(tmp_path, encoding, words, expected):
    done = strata(*words, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert any(word in done.stdout.decode(encoding) for word in expected.split("|"))
    assert not done.stderr


def test_nor_a_run_its_display(tmp_path):
    words = small_overrides("fedavg", "rounds=1", "output=runs")
    done = strata("run", "fedavg", *words, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "round 1/1" in done.stdout.decode("ascii")
    assert b"display failed" not in done.stdout + done.stderr


def test_a_folder_that_is_gone_is_a_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'cd "{gone}" && rmdir "{gone}" && exec "{sys.executable}" -P -m strata.cluster.cli list'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "error: the folder that this shell stands in was deleted." in " ".join(done.stderr.split())


def test_names_are_no_pictures(capsys):
    assert main(["run", "fedavg", *small_overrides("fedavg", "model=no_such_module:x")]) == 1
    assert "model.name=no_such_module:x: cannot be imported" in " ".join(capsys.readouterr().err.split())
