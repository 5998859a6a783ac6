"""The tree of errors: as its page draws it, and through a pickle as an actor sends it."""

import inspect
import pickle
import re

import pytest

from strata.engine import errors
from strata.engine.errors import StrataError, StrataWarning

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
ERRORS = [kind for kind in EVERY if issubclass(kind, StrataError)]


def drawn():
    """Each error of the tree in the module's docstring → its parent there."""
    parents, above = {}, ["StrataError"]
    for branch, name in re.findall(r"^([ │├└─]*)[├└]── (\w+)", errors.__doc__, re.MULTILINE):
        depth = len(branch.replace("    ", "", 1)) // 4 + 1
        parents[name] = above[depth - 1]
        above[depth:] = [name]
    return parents


def test_the_tree_is_drawn_as_it_is():
    assert len(ERRORS) > 10
    assert drawn() == {kind.__name__: kind.__base__.__name__ for kind in ERRORS if kind is not StrataError}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_pickling(kind):
    back = pickle.loads(pickle.dumps(kind("client 3: expected 1, got 2")))
    assert (type(back), str(back)) == (kind, "client 3: expected 1, got 2")


def test_a_warning_is_no_error():
    assert issubclass(StrataWarning, UserWarning)
    assert set(EVERY) - set(ERRORS) == {StrataWarning}
