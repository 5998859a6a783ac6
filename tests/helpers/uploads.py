"""Clients whose uploads are given, without methods and training."""

from dataclasses import dataclass

import torch

from strata.engine.evaluation.personal import Service
from strata.engine.method.messages import ClientResult, Context


@dataclass(frozen=True)
class Model:
    w: dict


class Given(Service):
    """Every client's change in each of its calls is the next of those given."""

    def __init__(self, changes):
        self._changes = iter(changes)

    def first_state(self, info, seed):
        return None

    def call(self, info, state, down, context):
        yield from ()
        change = next(self._changes)
        return ClientResult(Model({name: down.w[name] + value for name, value in change.items()}), state)


def called(service, info, state, down, round=1):
    """What a call comes to: the upload's change of what was sent, and the state after it."""
    steps = service.call(info, state, down, Context(round, 1, round))
    try:
        next(steps)
    except StopIteration as stop:
        up = stop.value.up
        return {name: up.w[name] - value for name, value in down.w.items()}, stop.value.state
    raise AssertionError("these clients ask for nothing")


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)
