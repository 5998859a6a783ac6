"""Runs on Ray go ahead with the next round while one is scored and written down, and are the same runs."""

import io
import json
import signal

import pytest
import ray
from rich.console import Console

from strata.cluster.run.between import SHORT_S, is_followed
from strata.cluster.run.profiling import PROFILE, Profile
from strata.cluster.run.recovery import INTERRUPTED
from strata.cluster.run.runner import resume, run_one, write_config
from strata.cluster.run.session import Session
from strata.cluster.run.stopping import Stopping
from strata.cluster.sinks.display import PlainDisplay
from strata.cluster.sinks.jsonl import METRICS
from strata.engine.config.ending import StopConfig
from strata.engine.runtime import local_ray
from strata.engine.state.checkpoint import found, round_of
from strata.engine.stopwatch import HANDOVER, PARTS, TRAINING
from tests.helpers.records import record
from tests.helpers.small import small

WORDS = (
    "rounds=9",
    "model=mclr",
    "clients_per_actor=4",
    "evaluation.every=2",
    "checkpoint.every=5",
    "checkpoint.keep=99",
)


@pytest.fixture(scope="module")
def ray_here():
    """A local Ray of two CPUs, which the runs below join."""
    local_ray.start(2, 0)
    yield
    ray.shutdown()


@pytest.fixture
def gone_ahead(monkeypatch):
    """The rounds after which the next one was under way already."""
    rounds, run_round = [], Session.run_round

    def watched(session, ahead=False):
        made = run_round(session, ahead)
        if session.federation.is_under_way:
            rounds.append(made.round)
        return made

    monkeypatch.setattr(Session, "run_round", watched)
    return rounds


class Interrupting:
    """A sink that presses Ctrl-C in a round."""

    def __init__(self, round):
        self._round = round

    def start(self, run):
        """Nothing is pressed yet."""

    def round(self, record):
        """Press it, if it is that round."""
        if record.round == self._round:
            signal.raise_signal(signal.SIGINT)

    def finish(self, summary, exit_code):
        """Nothing is pressed any more."""


def display():
    return PlainDisplay(Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The metrics of the run in this process, where nothing goes ahead."""
    folder = tmp_path_factory.mktemp("here")
    run_one(small("fedavg", *WORDS), folder, display())
    return (folder / METRICS).read_bytes()


@pytest.mark.slow
def test_a_run_goes_ahead_where_nothing_is_due_between_two_rounds_and_is_the_same(
    ray_here, gone_ahead, undisturbed, tmp_path
):
    run_one(small("fedavg", *WORDS, runtime="ray"), tmp_path, display(), profile=True)
    assert gone_ahead == [2, 3, 4, 6, 7, 8]  # before the first nobody knows how long one takes; 5 and 9 are saved
    assert (tmp_path / METRICS).read_bytes() == undisturbed
    for one in json.loads((tmp_path / PROFILE).read_text())["by_round"]:
        assert list(one["parts"]) == list(PARTS)
        assert min(one["parts"].values()) >= 0
        assert sum(one["parts"].values()) == pytest.approx(one["wall_s"], abs=1e-9)
        assert one["parts"][TRAINING] > 0
        assert one["parts"][HANDOVER] > 0


@pytest.mark.slow
def test_a_run_that_is_interrupted_ends_after_the_round_under_way_and_goes_on_as_if_it_had_not_been(
    ray_here, gone_ahead, undisturbed, tmp_path
):
    config = small("fedavg", *WORDS, runtime="ray")
    write_config(config, tmp_path)
    summary = run_one(config, tmp_path, display(), sinks=[Interrupting(7)])
    assert gone_ahead[-1] == 7
    assert (summary.exit_code, summary.rounds) == (INTERRUPTED, 8)
    assert [round_of(path) for path in found(tmp_path / "checkpoints")] == [5, 8]
    assert resume(tmp_path, {}, display()).exit_code == 0
    assert (tmp_path / METRICS).read_bytes() == undisturbed


def short(wall_s=SHORT_S):
    profile = Profile({})
    profile.add(record(3, seconds=dict.fromkeys(PARTS, 0.0) | {TRAINING: wall_s}), 0.0)
    return profile


@pytest.mark.parametrize(
    ("words", "stopping", "spent", "expected"),
    [
        ((), Stopping(), short(), True),
        ((), Stopping(), short(SHORT_S + 0.1), False),
        ((), Stopping(), Profile({}), False),
        ((), Stopping(StopConfig(patience=3)), short(), False),
        ((), Stopping(rule=lambda record: False), short(), False),
        (("rounds=4",), Stopping(), short(), False),
        (("checkpoint.every=2",), Stopping(), short(), False),
        (("checkpoint.every=3",), Stopping(), short(), True),
        (("checkpoint.every=0",), Stopping(), short(), True),
        (("checkpoint.every_s=9",), Stopping(), short(), False),
    ],
)
def test_a_round_is_followed_whatever_comes_of_it_unless_something_may_end_or_save_the_run(
    words, stopping, spent, expected
):
    assert is_followed(small("fedavg", "rounds=9", *words), 4, stopping, spent) is expected
