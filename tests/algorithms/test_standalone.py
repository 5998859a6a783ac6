"""Standalone against numpy."""

from strata.algorithms import standalone
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.families import SETTINGS
from tests.helpers.arithmetic.linear import (
    ONE_STEP,
    arrays,
    assert_close,
    backward,
    drive,
    error,
    forward,
    fresh,
    spec,
    step,
)


def test_standalone_descends_alone_and_sends_nothing():
    method = standalone.Standalone(standalone.StandaloneConfig(**SETTINGS), spec())
    omega = fresh(spec())
    result, _ = drive(method, standalone.Private(omega), standalone.Down(ONE_STEP))
    w = arrays(omega)
    assert_close(result.state.omega, step(w, backward(w, error(forward(w)[1]))), w)
    assert count_bytes(result.up) == 0
