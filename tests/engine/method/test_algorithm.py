"""What a method is without saying anything: which models are evaluated, and what it is told by default."""

import pytest

from strata.algorithms.fedavg import FedAvg
from strata.algorithms.permfl import PerMFL
from strata.algorithms.standalone import Standalone
from strata.engine.method.requests import Evaluate, Evaluation
from strata.engine.models.spec import ModelSpec
from tests.helpers.supernets import info_of

MODEL = ModelSpec("mclr", (2,), 2, ())
INFO = info_of(0)


class Personal(FedAvg):
    """Keeps what it was given as its personal model."""

    has_personal_model = True

    def personal_model(self, state):
        return state["own"]


def method(kind=FedAvg, **settings):
    return kind(kind.Config(**settings), MODEL)


def evaluated(algorithm, state, **shared):
    """Which parameters are evaluated under which name."""
    steps = algorithm.client_evaluate(INFO, state, shared)
    asked, answer = [], None
    try:
        while True:
            request = steps.send(answer)
            assert isinstance(request, Evaluate)
            assert request.split == "test"
            asked.append(request.params)
            answer = Evaluation(len(asked), 9, 0.0)
    except StopIteration as stop:
        return {name: asked[found.correct - 1] for name, found in stop.value.items()}


def test_shared_models_are_evaluated_each_under_its_name():
    assert evaluated(method(), None, GM="g", TM="t") == {"GM": "g", "TM": "t"}
    assert evaluated(method(), {"own": "p"}, GM="g") == {"GM": "g"}  # FedAvg has no personal model


@pytest.mark.parametrize("state", [None, {"own": None}])
def test_a_client_without_a_model_of_its_own_yet_is_served_by_its_team_or_else_by_the_server(state):
    assert evaluated(method(Personal), state, GM="g", TM="t")["PM"] == "t"
    assert evaluated(method(Personal), state, GM="g")["PM"] == "g"
    assert evaluated(method(Personal), state) == {}


def test_a_personal_model_is_the_clients_own():
    assert evaluated(method(Personal), {"own": "p"}, GM="g", TM="t") == {"GM": "g", "TM": "t", "PM": "p"}


def test_by_default_a_client_trains_as_long_as_is_configured():
    assert method(epochs=3).default_assignment(INFO) == {"epochs": 3, "steps": 0}
    assert method(epochs=3, steps=7).default_assignment(INFO) == {"epochs": 3, "steps": 7}


@pytest.mark.parametrize("kind", [FedAvg, PerMFL])
def test_capabilities_that_nobody_declared_are_not_there(kind):
    assert (kind.has_choices, kind.takes_families, kind.is_choice("stage2.depth")) == (False, False, False)
    assert Standalone.takes_families is True
