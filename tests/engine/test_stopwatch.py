"""Seconds are added up where they are spent, and split into parts that add up again. The clock is moved by hand."""

import pytest

from strata.engine import stopwatch
from strata.engine.stopwatch import HANDOVER, SERVER, TRAINING, Spent, Stopwatch, here, together


@pytest.fixture
def wait(monkeypatch):
    """Lets some seconds pass."""
    now = [100.0]
    monkeypatch.setattr(stopwatch, "perf_counter", lambda: now[0])

    def passing(seconds):
        now[0] += seconds

    return passing


def test_blocks_are_added_up_and_what_lies_between_is_not(wait):
    watch = Stopwatch()
    for seconds in (1, 2):
        with watch:
            wait(seconds)
        wait(10)
    assert watch.take() == 3
    assert watch.seconds == 0


def test_a_block_that_breaks_has_taken_its_time(wait):
    def breaking():
        with watch:
            wait(4)
            raise ValueError("broken")

    watch = Stopwatch()
    with pytest.raises(ValueError, match="broken"):
        breaking()
    assert watch.seconds == 4


def test_of_a_loop_only_the_waiting_counts(wait):
    def slow():
        for item in "ab":
            wait(1)
            yield item
        wait(0.5)  # before it is known that nothing follows

    watch, seen = Stopwatch(), []
    for item in watch.over(slow()):
        wait(7)
        seen.append(item)
    assert seen == ["a", "b"]
    assert watch.seconds == 2.5


def test_a_process_has_one_name():
    assert here() == here()
    assert ":" in here()


def parts(spent, wall_s):
    split = spent.split(wall_s)
    assert sum(split.values()) == pytest.approx(wall_s)
    assert min(split.values()) >= 0
    return [split[name] for name in (TRAINING, SERVER, HANDOVER)]


def test_of_processes_side_by_side_the_busiest_is_what_is_waited_for():
    flat = together([Spent({"a": 2.0}), Spent({"b": 3.0}), Spent({"a": 2.5})])
    assert flat.trained == {"a": 4.5, "b": 3.0}
    spent = Spent(flat.trained, waited_s=5.0, own_s=0.25)
    assert parts(spent, 6.0) == [4.5, 0.25, 1.25]  # 0.5 within the server's waiting, 0.75 on the way to it


def test_team_servers_count_as_far_as_clients_do_not_train_meanwhile():
    spent = Spent({"a": 4.0}, {"t": 0.75, "u": 0.5}, waited_s=5.0, own_s=1.0)
    assert parts(spent, 6.5) == [4.0, 1.75, 0.75]
    hidden = Spent({"a": 4.0}, {"t": 3.0}, waited_s=5.0, own_s=1.0)
    assert parts(hidden, 6.0) == [4.0, 2.0, 0.0]


def test_clients_that_had_trained_before_they_were_waited_for_count_as_waited_for():
    assert parts(Spent({"a": 9.0}, {"t": 1.0}, waited_s=2.0, own_s=1.0), 3.0) == [2.0, 1.0, 0.0]


def test_rounds_without_children_are_the_servers():
    assert parts(Spent(own_s=1.0), 1.5) == [0.0, 1.0, 0.5]


def test_no_part_is_negative_where_a_round_began_before_the_clock_for_it():
    spent = Spent(trained={"a": 2.0}, waited_s=3.0, own_s=0.5)
    assert spent.split(2.25) == {TRAINING: 2.0, SERVER: 0.5, HANDOVER: 0.0}
