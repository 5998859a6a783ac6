"""Sequences whose entries are made when they are asked for."""

import pickle

import pytest

from strata.engine import on_demand
from strata.engine.on_demand import OnDemand


class Squares(OnDemand[int]):
    def __init__(self, length):
        super().__init__(length)
        self.asked = []

    def made(self, place):
        self.asked.append(place)
        return place * place


def test_an_entry_is_made_when_it_is_asked_for_and_once():
    squares = Squares(1000)
    assert squares.asked == []
    assert (squares[3], squares[3], squares[-1]) == (9, 9, 998001)
    assert squares.asked == [3, 999]


def test_it_is_a_sequence():
    squares = Squares(5)
    assert len(squares) == 5
    assert list(squares) == [0, 1, 4, 9, 16]
    assert squares[1:4] == [1, 4, 9]
    with pytest.raises(IndexError):
        squares[5]


def test_going_over_all_of_it_keeps_nothing_and_those_made_last_are_kept(monkeypatch):
    monkeypatch.setattr(on_demand, "KEPT", 2)
    squares = Squares(10)
    list(squares)
    squares.asked.clear()
    for place in (1, 2, 3, 3, 2, 1, 3):
        assert squares[place] == place**2
    assert squares.asked == [1, 2, 3, 1]


def test_entries_do_not_travel():
    squares = Squares(100_000)
    few = len(pickle.dumps(squares))
    for place in range(1000):
        squares[place]
    squares.asked.clear()
    there = pickle.loads(pickle.dumps(squares))
    assert len(pickle.dumps(squares)) == few
    assert there[7] == 49
    assert there.asked == [7]
