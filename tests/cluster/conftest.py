"""A comparison of seconds, for all that looks at one."""

import contextlib
import warnings

import pytest

from strata.engine.errors import StrataWarning
from tests.helpers.comparisons import FAST, LABELS, ODD, command
from tests.helpers.small import small_overrides


@pytest.fixture(scope="session")
def done(tmp_path_factory):
    """A comparison of three entries over two seeds: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / ODD).write_text("algorithm: fedavg\nrounds: 99\nmethod:\n  lr: 0.05\n")
    words = [*small_overrides("x", "seeds=[0,1]", "output=runs"), *FAST]
    with contextlib.chdir(folder):
        code, out = command(*LABELS, *words, "--against", LABELS[1], "--output", "report")
    assert code == 0
    return folder, out


@pytest.fixture
def warned(capsys):
    """Returns the lines of warnings; the command prints them on stderr, where they would be errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", StrataWarning)
        yield lambda: capsys.readouterr().err.splitlines()
