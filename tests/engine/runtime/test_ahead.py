"""Federations whose next round is under way before the last one's record is made."""

import pytest
import ray

from strata.engine.errors import StrataError, TrainingError
from strata.engine.federation import Federation
from strata.engine.method.situation import Decisions
from strata.engine.runtime import local_ray
from strata.engine.runtime.asking import Actor, Remote, answer
from strata.engine.runtime.shells import Shell
from tests.helpers.small import BUFFERED, small

WORDS = ("rounds=5", "model=mclr", "clients_per_actor=4", "evaluation.every=2", "clients.num_cpus=0.5")


@pytest.fixture(scope="module")
def ray_here():
    """A local Ray of two CPUs, which the federations below join."""
    local_ray.start(2, 0)
    yield
    ray.shutdown()


def played(method, *words, runtime="ray", ahead=False):
    """All rounds of a federation, what it is in the end, and after which rounds the next one was under way."""
    with Federation(small(method, *WORDS, *words, runtime=runtime)) as federation:
        records, under_way = [], []
        for number in range(1, 6):
            records.append(federation.run_round(ahead=ahead))  # of which there is no next one after the last
            under_way += [number] * federation.is_under_way
        return records, federation.fingerprint(), under_way


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "words"),
    [("fedavg", ()), pytest.param("fedavg", BUFFERED, marks=pytest.mark.exhaustive), ("permfl", ())],
)
def test_going_ahead_changes_no_bit(ray_here, method, words):
    expected, prints, _ = played(method, *words, runtime="inprocess")
    found, other, under_way = played(method, *words, ahead=True)
    assert under_way == [1, 2, 3, 4]
    assert other == prints
    assert [record.scores for record in found] == [record.scores for record in expected]
    assert [bool(record.scores) for record in found] == [False, True, False, True, True]


def test_in_one_process_nothing_goes_ahead():
    assert played("fedavg", runtime="inprocess", ahead=True)[2] == []


@pytest.mark.slow
@pytest.mark.parametrize("word", ["evaluation.every_s=5", "stop.virtual_s=1e9"])
def test_nothing_goes_ahead_where_the_virtual_clock_says_what_is_evaluated(ray_here, word):
    assert played("fedavg", word, ahead=True)[2] == []


@pytest.mark.slow
def test_nothing_is_asked_while_the_next_round_is_under_way(ray_here):
    with Federation(small("fedavg", *WORDS, runtime="ray")) as federation:
        federation.run_round(ahead=True)
        for ask_for in (federation.global_model, federation.invite, federation.fingerprint):
            with pytest.raises(
                StrataError, match=r"was asked for while run_round is under way. Run the next round first"
            ):
                ask_for()
        with pytest.raises(StrataError, match="round 2 is under way without decisions"):
            federation.run_round(Decisions({}))
        assert federation.run_round().round == 2
        federation.fingerprint()


@pytest.mark.slow
def test_a_round_that_breaks_says_so_and_what_was_handed_over_behind_it_is_not_made(ray_here):
    with Federation(small("fedavg", *WORDS, "model=mlp", "method.lr=1e30", runtime="ray")) as federation:
        with pytest.raises(TrainingError, match="round 1"):
            federation.run_round(ahead=True)
        assert not federation.is_under_way
        with pytest.raises(TrainingError, match="round 1"):  # tried again, from where it was
            federation.run_round()
        assert federation.round == 0


@pytest.mark.slow
def test_a_federation_that_starts_anew_forgets_what_was_under_way(ray_here):
    expected, prints, _ = played("fedavg", runtime="inprocess")
    with Federation(small("fedavg", *WORDS, runtime="ray")) as federation:
        federation.run_round()
        federation.run_round(ahead=True)
        federation.restart()
        assert not federation.is_under_way
        assert [record.scores for record in federation] == [record.scores for record in expected]
        assert federation.fingerprint() == prints


class Counter:
    """Something that counts what it was asked."""

    def __init__(self):
        self.asked = 0

    def more(self, by=1):
        self.asked += by
        return self.asked

    def fails(self):
        raise ValueError("no more")


@pytest.mark.slow
def test_calls_are_handed_over_before_they_are_awaited_and_one_that_breaks_keeps_back_the_others(ray_here):
    actor = Actor(ray.remote(Shell).options(num_cpus=0).remote(0, Counter), 0)
    counter = Remote(actor, "counter")
    for number in (1, 2, 3):
        counter.hand_over("more", number)
    assert [counter.more() for _ in range(3)] == [1, 3, 6]  # with what was handed over, and not once more
    assert counter.more() == 7
    for verb in ("more", "fails", "more", "more"):
        counter.hand_over(verb)
    behind = counter._ahead[-1][1]
    assert counter.more() == 8
    with pytest.raises(ValueError, match="no more"):
        counter.fails()
    assert answer(behind, "counter") is None
    assert counter.more() == 9
