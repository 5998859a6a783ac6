"""The shell that holds a tier in an actor's process."""

import pytest

from strata.engine.errors import ResourceError
from strata.engine.runtime.shells import Shell


def refuse(why):
    raise ResourceError(why)


@pytest.mark.parametrize("use", [lambda shell: shell.ready(), lambda shell: shell.ask("run", ())], ids=["ready", "ask"])
def test_a_start_that_was_refused_is_told_to_whoever_waits_for_it(use):
    shell = Shell(refuse, "no CUDA device here")
    with pytest.raises(ResourceError, match="no CUDA device here"):
        use(shell)


def test_a_shell_is_ready_and_forwards_calls():
    shell = Shell(list, (3, 1))
    assert shell.ready() is True
    assert shell.ask("index", (1,)) == 1
