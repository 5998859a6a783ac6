"""``strata list`` with packages of others, of which some are broken."""

import sys

import pytest

from strata.cluster.cli import main
from strata.engine.method.find import load_method

METHOD = "from strata.algorithms.fedavg import FedAvg\nclass Mine(FedAvg):\n    pass\nMETHOD = Mine\n"
MODULES = {
    "theirs_silent": METHOD,
    "theirs_marked": f'"""Like [bold]FedAvg[/bold], and [/odd]."""\n{METHOD}',
    "theirs_raising": "raise ValueError('of two\\nlines')",
    "theirs_leaving": "import sys\nsys.exit(3)",
    "theirs_sink": "class Kept:\n    pass\n",
}
POINTS = """\
[strata.methods]
silent = theirs_silent
theirs_marked = theirs_marked
gone = theirs_gone
raising = theirs_raising
leaving = theirs_leaving:Mine
nothing = theirs_sink
[strata.sinks]
kept = theirs_sink:Kept
lost = theirs_sink:Lost
absent = theirs_absent:Kept
quitting = theirs_leaving:Kept
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of others' methods and sinks."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("installed")
def test_what_is_broken_has_a_line_of_its_own_and_all_else_is_listed(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert ["silent", "", "global, client"] in rows
    assert ["theirs_marked", "Like [bold]FedAvg[/bold], and [/odd].", "global, client"] in rows
    assert any(row[0] == "permfl" for row in rows if row)
    (sinks,) = [line for line in lines if line.startswith("sinks")]
    assert "kept" in sinks
    assert not any(name in sinks for name in ("lost", "absent", "quitting"))
    broken = [line.removeprefix("broken").strip() for line in lines if line.startswith("broken")]
    assert len(broken) == 7
    for text in (
        "algorithm=gone: cannot import theirs_gone: No module named 'theirs_gone'.",
        "algorithm=raising: importing theirs_raising raised ValueError: of two lines.",
        "algorithm=leaving: importing theirs_leaving raised SystemExit: 3.",
        "algorithm=nothing: theirs_sink must define METHOD",
        "tracking.sinks: lost cannot be loaded from theirs_sink:Lost: AttributeError: ",
        "tracking.sinks: absent cannot be loaded from theirs_absent:Kept: ModuleNotFoundError: ",
        "tracking.sinks: quitting cannot be loaded from theirs_leaving:Kept: SystemExit: 3.",
    ):
        assert any(line.startswith(text) for line in broken), text


@pytest.mark.usefixtures("installed")
def test_a_method_may_be_called_as_its_module_is():
    assert load_method("theirs_marked").__name__ == "Mine"
