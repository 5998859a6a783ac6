"""The notebooks run from their first cell to their last, as a kernel runs them: one after the other, in one module."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))

KERNEL = """
import ast, json, sys
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf8"))["cells"]):
    if cell["cell_type"] == "code":
        parsed = ast.parse("".join(cell["source"]), f"cell {number}")
        last = parsed.body.pop() if isinstance(parsed.body[-1], ast.Expr) else None
        exec(compile(parsed, f"cell {number}", "exec"))
        if last:
            print(eval(compile(ast.Expression(last.value), f"cell {number}", "eval")))
"""


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path):
    words = [sys.executable, "-c", KERNEL, str(notebook)]
    plain = {**os.environ, "MPLBACKEND": "agg", "WANDB_MODE": "disabled"}
    done = subprocess.run(words, cwd=tmp_path, env=plain, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_there_are_four_and_they_hold_no_outputs():
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        assert all(not cell.get("outputs") for cell in cells)
        assert cells[0]["cell_type"] == "markdown"
