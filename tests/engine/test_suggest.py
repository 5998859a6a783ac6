"""Hints at what was meant."""

import pytest

from strata.engine.suggest import closest


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("round", " Did you mean rounds?"),
        ("runds", " Did you mean rounds?"),
        ("sede", " Did you mean seed?"),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_the_most_similar_name_is_hinted_at_if_any_is_similar(name, hint):
    assert closest(name, ["rounds", "seed", "seeds", "around"]) == hint


def test_without_names_there_is_no_hint():
    assert closest("rounds", []) == ""
