"""Going on after something was lost: back to the last checkpoint, as often as a run allows."""

import time
from types import SimpleNamespace

import pytest

from strata.cluster.run import recovery
from strata.cluster.run.recovery import Recovery
from strata.engine.errors import (
    ActorDiedError,
    ActorStartError,
    CheckpointError,
    ClusterError,
    ResourceError,
    SlowStartError,
    TrainingError,
)
from tests.helpers.small import small


class Restarted:
    """A session that notes what is done to it; ``broken`` are the errors of its next restarts."""

    def __init__(self, round, broken=()):
        self.round, self.done, self._broken = round, [], list(broken)
        self.damaged = ()
        self.federation = SimpleNamespace(runtime=SimpleNamespace(head=""))

    def restart(self):
        self.done.append("restart")
        if self._broken:
            raise self._broken.pop(0)
        self.round = 0

    def restore(self, path):
        self.done.append(path.name)
        if path.name in self.damaged:
            self.round = int(path.name.removeprefix("round-"))
            raise CheckpointError(f"{path.name} is damaged.")
        self.round = int(path.name.removeprefix("round-"))


@pytest.fixture
def lines():
    return []


@pytest.fixture
def made(tmp_path, lines, monkeypatch):
    monkeypatch.setattr(recovery, "PAUSE_S", 0.0)

    def make(*words, saved=()):
        for round in saved:
            (tmp_path / f"round-{round:06}").mkdir()
            (tmp_path / f"round-{round:06}" / "state.json").write_text("{}")
        return Recovery(small("permfl", *words), tmp_path, lines.append)

    return make


def test_a_session_goes_back_to_the_newest_checkpoint(made, lines):
    session, kept = Restarted(7), made(saved=(4, 6))
    kept.recover(session, ActorDiedError("client 3, round 8: the actor's process ended: killed."))
    assert session.done == ["restart", "round-000006"]
    (survived,) = kept.survived
    assert (survived.round, survived.back_to) == (8, 6)
    assert lines == [
        "lost: client 3, round 8: the actor's process ended: killed.",
        "going on from round 6: all actors began again",
    ]


def test_without_a_checkpoint_it_begins_again(made):
    session = Restarted(2)
    made().recover(session, ClusterError("lost"))
    assert (session.done, session.round) == (["restart"], 0)


def test_a_start_that_breaks_too_is_tried_again(made):
    session = Restarted(2, [ActorDiedError("a dead node"), ResourceError("60 s")])
    made().recover(session, ActorDiedError("lost"))
    assert session.done == ["restart"] * 3


def test_a_start_that_takes_as_long_as_it_may_is_tried_again(made):
    class Slow(Restarted):
        def restart(self):
            time.sleep(0.05)
            super().restart()

    session = Slow(2, [SlowStartError("0.04 s")])
    made("ray.start_timeout_s=0.04").recover(session, ActorDiedError("lost"))
    assert session.done == ["restart"] * 2


def test_a_start_that_breaks_for_long_ends_the_run(made):
    session = Restarted(2, [ClusterError("a dead node")] * 1000)
    with pytest.raises(ClusterError, match=r"^a dead node Continue with: strata run resume="):
        made("ray.start_timeout_s=0.01").recover(session, ActorDiedError("lost"))
    assert len(session.done) > 1


def test_the_same_round_is_tried_so_often_and_no_more(made, tmp_path):
    session, kept = Restarted(4), made("faults.retries=2", saved=(4,))
    for _ in range(2):
        kept.recover(session, ActorDiedError("lost"))
    with pytest.raises(
        ActorDiedError, match=f"^lost It was tried 3 times .faults.retries=2.. Continue with: .*{tmp_path.parent}$"
    ):
        kept.recover(session, ActorDiedError("lost"))


def test_a_round_further_on_counts_anew(made):
    session, kept = Restarted(4), made("faults.retries=1", saved=(4,))
    for done in (4, 5, 6):
        session.round = done
        kept.recover(session, ActorDiedError("lost"))
    assert len(kept.survived) == 3


def test_an_earlier_round_made_again_counts_as_the_furthest_one(made):
    """Or a failure that moves about between the rounds that are made again would never end the run."""
    session, kept = Restarted(6), made("faults.retries=1", saved=(4,))
    kept.recover(session, ActorDiedError("lost"))
    assert session.round == 4
    with pytest.raises(ActorDiedError):
        kept.recover(session, ActorDiedError("lost"))


@pytest.mark.parametrize("words", [("on_failure=stop",), ("faults.retries=0",)])
def test_a_run_that_shall_stop_stops(made, words):
    session = Restarted(4)
    with pytest.raises(ActorDiedError, match=r"^lost Continue with: strata run resume="):
        made(*words).recover(session, ActorDiedError("lost"))
    assert not session.done


def test_what_a_start_itself_raises_is_not_tried_again(made):
    starts = []

    def start():
        starts.append(1)
        raise ActorStartError("a method of one's own")

    with pytest.raises(ActorStartError):
        made().started(start)
    assert len(starts) == 1


def test_a_process_that_dies_at_the_start_is_started_again(made):
    errors = [ActorDiedError("an actor died while it started")]

    def start():
        if errors:
            raise errors.pop()
        return Restarted(0)

    assert made().started(start).round == 0


def test_a_defect_is_no_loss(made):
    with pytest.raises(TrainingError):
        made().started(lambda: (_ for _ in ()).throw(TrainingError("loss is nan")))


def test_what_a_cluster_refuses_is_not_tried_again(made):
    starts = []

    def start():
        starts.append(1)
        raise ClusterError("a node has another Python")

    with pytest.raises(ClusterError):
        made().started(start)
    assert len(starts) == 1


@pytest.mark.parametrize(("damaged", "back_to"), [(("round-000006",), 4), (("round-000006", "round-000004"), 0)])
def test_a_damaged_checkpoint_is_passed_over(made, lines, damaged, back_to):
    session, kept = Restarted(7), made(saved=(4, 6))
    session.damaged = damaged
    kept.recover(session, ActorDiedError("lost"))
    assert kept.survived[0].back_to == session.round == back_to
    # What is damaged may have been taken up in part, which an older one replaces; before the first round none does.
    assert session.done.count("restart") == (1 if back_to else 2)
    assert "warning: round-000006 is damaged. Going back further." in lines


def test_a_run_that_is_interrupted_meanwhile_is_not_started_again(made):
    session, kept = Restarted(2, [ActorDiedError("drained")] * 9), made()
    kept.interrupted = lambda: True
    kept.recover(session, ActorDiedError("lost"))
    assert session.done == ["restart"]
