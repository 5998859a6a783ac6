"""The shell that holds a tier in an actor's process."""

import sys
from types import SimpleNamespace

import pytest
import ray
from ray.util import serialization_addons

from strata.engine.errors import ClusterError, ResourceError
from strata.engine.runtime import local_ray
from strata.engine.runtime.asking import Actor, answer, ask
from strata.engine.runtime.passing.packing import Greeting, packed, unpacked
from strata.engine.runtime.shells import Shell

STRANGER = Greeting("", None, False)


def asked(shell, term, verb, arguments):
    """What a shell in this process answers somebody who does not see its memory."""
    return unpacked(shell.ask(term, STRANGER, verb, packed(arguments)).message)


def refuse(why):
    raise ResourceError(why)


@pytest.mark.parametrize(
    "use", [lambda shell: shell.ready(), lambda shell: asked(shell, 0, "run", ())], ids=["ready", "ask"]
)
def test_a_start_that_was_refused_is_told_to_whoever_waits_for_it(use):
    shell = Shell(0, refuse, "no CUDA device here")
    with pytest.raises(ResourceError, match="no CUDA device here"):
        use(shell)


def test_a_shell_is_ready_and_forwards_calls():
    shell = Shell(0, list, (3, 1))
    assert shell.ready() is True
    assert asked(shell, 0, "index", (1,)) == 1


def test_a_shell_that_begins_again_refuses_calls_of_before():
    shell = Shell(0, list, (3, 1))
    shell.begin_again(1, list, (1, 3))
    assert asked(shell, 1, "index", (3,)) == 1
    with pytest.raises(ClusterError, match="handed over before the actors began again"):
        asked(shell, 0, "append", (5,))
    assert asked(shell, 1, "count", (5,)) == 0
    with pytest.raises(ResourceError, match="no room"):
        shell.begin_again(2, refuse, "no room")
    with pytest.raises(ResourceError, match="no room"):
        asked(shell, 2, "count", (5,))


def loaded(*names):
    """Makes a shell that tells which of these modules its process has loaded."""
    return SimpleNamespace(told=lambda: [name for name in names if name in sys.modules])


@pytest.mark.slow
def test_an_actor_loads_nothing_to_send_what_it_never_sends():
    seen = ("torch", "pyarrow", "pydantic.v1", "starlette")
    local_ray.start(1, 0)
    try:
        shell = Actor(ray.remote(Shell).remote(0, loaded, *seen), 0)
        assert answer(ask(shell, "told", ()), "shell") == ["torch"]
    finally:
        ray.shutdown()
    assert serialization_addons.apply.__module__ == "ray.util.serialization_addons"  # in no process but an actor's
