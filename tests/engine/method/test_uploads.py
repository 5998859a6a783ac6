"""What a server refuses of an upload, and whom it names."""

import dataclasses

import pytest
import torch

from strata.algorithms.fedavg import FedAvg
from strata.engine.errors import TrainingError
from strata.engine.federation import Federation
from strata.engine.method.messages import Received
from strata.engine.method.uploads import require_finite, require_shapes
from tests.helpers.small import small


@dataclasses.dataclass(frozen=True)
class Model:
    w: dict[str, torch.Tensor]
    extra: torch.Tensor | None = None


def model(*shape, extra=None, value=1.0):
    return Model({"a": torch.full(shape, value), "b": torch.ones(2)}, extra)


def test_a_model_comes_back_in_the_shape_it_was_sent_in():
    require_shapes(model(2, 3, extra=torch.ones(5)), model(2, 3), "client 1")
    with pytest.raises(
        TrainingError, match=r"client 1: its upload's w\.a has the shape \(1, 3\), expected \(2, 3\), as"
    ):
        require_shapes(model(1, 3), model(2, 3), "client 1")


def test_what_was_not_sent_may_have_any_shape():
    require_shapes(model(2, 3), None, "client 1")
    require_shapes(Model({"c": torch.ones(7)}), model(2, 3), "client 1")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_sender_of_what_is_not_finite_is_named(value):
    ups = [Received(3, 1, model(2)), Received(5, 1, model(2, value=value)), Received(8, 1, model(2, value=value))]
    with pytest.raises(TrainingError, match=r"client 5, round 2: its upload's \.w\[a\] is not finite"):
        require_finite(model(2, value=value), ups, "client {}, round 2")
    require_finite(model(2), ups, "client {}, round 2")  # the method did not take it in


def test_a_method_that_makes_it_itself_is_not_blamed_on_a_sender():
    require_finite(model(2, value=float("nan")), [Received(3, 1, model(2))], "client {}")


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda t: t * float("nan"), r"client 2, round 1: its upload's \.w\[.*\] is not finite"),
        (lambda t: t[:1], r"client 2, round 1: its upload's w\..* has the shape \(1.*expected \(10"),
    ],
    ids=["not finite", "another shape"],
)
def test_a_run_ends_where_such_an_upload_arrives(monkeypatch, tamper, says):
    step = FedAvg.client_step

    def tampered(self, info, *rest):
        result = yield from step(self, info, *rest)
        if info.id != 2:
            return result
        w = {name: tamper(value) for name, value in result.up.w.items()}
        return dataclasses.replace(result, up=dataclasses.replace(result.up, w=w))

    monkeypatch.setattr(FedAvg, "client_step", tampered)
    with Federation(small("fedavg")) as federation, pytest.raises(TrainingError, match=says):
        federation.run_round()
