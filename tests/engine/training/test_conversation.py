"""Conversations: whatever breaks one of them on purpose is its own result, and says whose it was."""

import pytest

from strata.engine.data.dataset import ClientData
from strata.engine.errors import LossError, ResourceError, StrataError, TopologyError
from strata.engine.method.length import Length
from strata.engine.method.requests import Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.training.conversation import Conversation, converse, drive
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Broken
from tests.helpers.models import spec
from tests.helpers.training import DATA, ROWS, D, K

WHERE = "client 3 (team 1), round 7"


def talk(steps, where=WHERE):
    return Conversation(steps, ClientData(ROWS, ROWS[:6]), 1, where)


def training(loss):
    model = spec("mclr", (D,), K)
    return (yield Train(model, init_params(model, 0), Sgd(0.1), 4, Length(steps=1), loss=loss))


def breaking(error):
    raise error
    yield


def scalar(model, batch):
    return model(batch.x).sum()


def fine(model, batch):
    return model(batch.x).sum(1)


@pytest.mark.parametrize(
    ("steps", "kind", "message"),
    [
        (
            lambda: training(scalar),
            LossError,
            r"^client 3 \(team 1\), round 7.*: scalar: expected a loss of each sample",
        ),
        (lambda: breaking(TopologyError("no team")), TopologyError, r"^client 3 \(team 1\), round 7: no team$"),
        (lambda: breaking(StrataError(f"{WHERE}: mine")), StrataError, r"^client 3 \(team 1\), round 7: mine$"),
    ],
    ids=["loss", "generator", "named already"],
)
@pytest.mark.parametrize("width", [1, 2])
def test_what_breaks_a_conversation_is_its_result_and_names_it(steps, kind, message, width):
    talks = [talk(steps()), talk(training(fine), "client 4 (team 1), round 7")]
    (broken, _), (other, _) = converse(Sequential(DATA), talks, width)
    assert isinstance(broken, Broken)
    with pytest.raises(kind, match=message):
        raise broken.error
    assert not isinstance(other, Broken)


def test_a_defect_is_not_taken_for_a_result():
    with pytest.raises(ZeroDivisionError):
        drive(Sequential(DATA), talk(breaking(ZeroDivisionError())))


class Refusing:
    """A trainer that answers nothing of what it is asked together."""

    def answer(self, asked):
        raise ResourceError("too large")


def test_an_error_of_all_that_was_asked_together_names_one_and_how_many_more():
    talks = [talk(training(fine), f"client {number}, round 1") for number in (0, 1, 2, 0)]
    ended = [result.error for result, _ in converse(Refusing(), talks[:3], 3)]
    assert {str(error) for error in ended} == {"client 0, round 1 (and 2 more together with it): too large"}
    ((alone, _),) = converse(Refusing(), talks[3:], 3)
    assert str(alone.error) == "client 0, round 1: too large"
