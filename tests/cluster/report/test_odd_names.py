"""Pictures of what users name as they like, wherever the command is typed."""

import os
import subprocess
import sys

import pytest

from strata.cluster.cli import main

PNG = b"\x89PNG"


def test_names_of_classes_are_no_formulas(tmp_path):
    classes = ["$50^$", "a_$b", "${x", r"\frac$"]
    rows = "".join(f"{number * 37 % 11},{classes[number % 4]}\n" for number in range(200))
    (tmp_path / "of $money^$.csv").write_text(f"x,label\n{rows}")
    words = [f"data={tmp_path}/of $money^$.csv", "partition=iid", "model=mclr", "clients.count=4", "teams.count=2"]
    assert main(["data", *words, "--plot", str(tmp_path / "who.png")]) == 0
    assert (tmp_path / "who.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("backend", ["module://of.some.notebook", "nonsense"])
def test_the_backend_of_a_notebook_is_not_asked_for(tmp_path, backend):
    words = ["data", "data.limit=600", "clients.count=4", "teams.count=2", "--plot", "who.png"]
    done = subprocess.run(
        [sys.executable, "-m", "strata.cluster.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "who.png").read_bytes().startswith(PNG)
