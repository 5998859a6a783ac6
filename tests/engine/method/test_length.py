"""How long to train, in steps or in epochs."""

import pytest

from strata.engine.method.length import Length


@pytest.mark.parametrize(
    ("length", "unit", "count", "steps"),
    [
        (Length(epochs=3), "epochs", 3, 3 * 7),
        (Length(steps=5), "steps", 5, 5),
        (Length(epochs=3, steps=5), "steps", 5, 5),  # steps win
        (Length(), "epochs", 0, 0),
    ],
)
def test_steps_count_where_there_are_some_and_else_epochs(length, unit, count, steps):
    assert (length.unit, length.count, length.in_steps(per_epoch=7)) == (unit, count, steps)


def test_an_assignment_says_a_length_and_is_read_back():
    assert Length(2, 9).told() == {"epochs": 2, "steps": 9}
    assert Length.of({"size": 1, **Length(2, 9).told()}) == Length(2, 9)
    assert Length.of({"epochs": 2.0, "steps": "9"}) == Length(2, 9)
    with pytest.raises(KeyError, match="steps"):
        Length.of({"epochs": 2})
