"""The timing model against federations that train: the same rounds, to the bit."""

import numpy as np
import pytest

from strata.agents.policies import RulePolicies
from strata.engine.build import build_world
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.calls import PLAIN
from strata.engine.method.situation import Decisions
from strata.engine.rounds.timed import TimedRounds
from strata.envs.opening import TrainingRounds
from tests.helpers.calls import call_rows
from tests.helpers.decisions import play
from tests.helpers.small import small

HAPFL = (
    "model=mlp",
    "model.hidden=[16]",
    "method.pool=[0.25,0.5,0.75,1.0]",
    "method.lite=0.25",
    "method.batch_size=16",
    "agents.policy=none",
)
NOISY = (
    "rounds=12",
    "data.limit=400",
    "clients.count=10",
    "clients.participation=0.6",
    "delays=loguniform",
    "delays.availability=0.7",
    "delays.dropout=0.3",
    "clients.mode=deadline",
    "clients.deadline_s=0.12",
    "delays.server_latency_s=0.25",
    "delays.server_up_bytes_per_s=2e6",
    "delays.median_flops_per_s=1e8",
)
ASYNCHRONOUS = ("clients.mode=async", "clients.concurrency=6", "clients.buffer=1", "clients.max_staleness=3")
LEARNT = ("loss", "samples", "steps")  # what only training can tell


def same(timed, trained):
    assert (timed.round_s, timed.straggling_s) == (trained.round_s, trained.straggling_s)
    for name in set(PLAIN) - set(LEARNT):
        ours, theirs = getattr(timed.calls, name), getattr(trained.calls, name)
        np.testing.assert_array_equal(ours, theirs, err_msg=name, strict=name != "device")


def decided(cohort, draws, steps):
    """Some of the invited, each told a size and an intensity at random."""
    unit = "steps" if steps else "epochs"
    kept = [client for client in cohort if draws.random() < 0.9]
    return Decisions({c: {"size": int(draws.integers(4)), unit: int(draws.integers(1, 5))} for c in kept})


@pytest.mark.parametrize("steps", [0, 3], ids=["epochs", "steps"])
def test_rounds_that_are_timed_are_those_that_train(steps):
    config = small("hapfl", *HAPFL, *NOISY, f"method.steps={steps}", "evaluation.every=100")
    draws, seen, known = np.random.default_rng(0), [], set()
    with Federation(config) as federation:
        timed, trained = TimedRounds(build_world(config)), TrainingRounds(federation)
        for number in range(12):
            cohort = timed.invite()
            assert cohort == trained.invite() == timed.invite()
            unknown = [client for client in cohort if client not in known]
            if unknown:
                same(timed.probe(unknown), trained.probe(unknown))
            known |= set(unknown)
            told = decided(cohort, draws, steps) if number != 5 else None  # once the method's own defaults
            report, truth = timed.play(told), trained.play(told)
            same(report, truth)
            assert timed.round == trained.round == number + 1
            record = trained.record
            calls = [call for call in call_rows(record.calls) if call.status != "probe"]
            assert [call.status == "ok" for call in calls] == report.calls.completed.tolist()
            assert report.straggling_s == record.straggling_s
            seen += [call.status for call in call_rows(record.calls)]
        assert federation.virtual_s > 0
    counts = {status: seen.count(status) for status in ("ok", "late", "lost", "probe")}
    assert min(counts.values()) > 3, f"the noise leaves something out: {counts}"
    assert counts["probe"] == len(known) == 10


def test_asynchronous_rounds_that_are_timed_are_those_that_train():
    words = (*NOISY, *ASYNCHRONOUS, "delays.dropout=0.1", "rounds=20", "evaluation.every=100")
    config = small("hapfl", *HAPFL, *words, "clients.staleness=polynomial", "clients.update=change")
    draws, known, dropped = np.random.default_rng(0), set(), 0.0
    with Federation(config) as federation:
        timed, trained = TimedRounds(build_world(config)), TrainingRounds(federation)
        for _ in range(20):
            cohort = timed.invite()
            assert cohort == trained.invite()
            unknown = [client for client in cohort if client not in known]
            if unknown:
                same(timed.probe(unknown), trained.probe(unknown))
            known |= set(unknown)
            told = decided(cohort, draws, 0)
            same(timed.play(told), trained.play(told))
            dropped += trained.record.metrics["async/stale"]
        assert dropped > 0


def test_nobody_there_takes_the_servers_time_alone():
    config = small("hapfl", *HAPFL, "delays.availability=0.000001", "delays.server_latency_s=0.5")
    with Federation(config) as federation:
        timed, trained = TimedRounds(build_world(config)), TrainingRounds(federation)
        assert timed.invite() == trained.invite() == []
        for told in (None, Decisions({})):
            report = timed.play(told)
            same(report, trained.play(told))
            assert (report.round_s, report.straggling_s, len(report.calls)) == (0.5, 0.0, 0)


def test_a_round_is_longer_by_its_slowest_probe_and_only_that_round():
    rounds = TimedRounds(build_world(small("hapfl", *HAPFL, "delays.jitter=none")))
    other = TimedRounds(rounds.world)
    slowest = max(rounds.probe([2, 5]).calls.total_s)
    assert rounds.play(None).round_s == pytest.approx(other.play(None).round_s + slowest, rel=1e-12)
    assert rounds.play(None).round_s == other.play(None).round_s


def test_tiered_methods_are_refused():
    with pytest.raises(ConfigError, match="PerMFL has teams: the timing fidelity is for flat methods"):
        TimedRounds(build_world(small("permfl")))


def test_rounds_of_the_timing_model_have_the_seconds_of_real_ones():
    from strata.envs.opening import full_turns, timing_turns

    config = small(
        "fedavg",
        "rounds=8",
        "method.epochs=5",
        "clients.mode=deadline",
        "clients.deadline_s=0.13",
        "delays=lognormal",
        "delays.median_flops_per_s=1e8",
        "delays.dropout=0.15",
        "delays.availability=0.7",
    )
    with Federation(config) as federation:
        turns = full_turns(federation)
        full = [done.played.report for done in play(turns, RulePolicies("random", turns.control, 0), rounds=8)]
    timed = timing_turns(config)
    timing = [done.played.report for done in play(timed, RulePolicies("random", timed.control, 0), rounds=8)]
    for a, b in zip(full, timing, strict=True):
        assert a.round_s == b.round_s
        assert a.straggling_s == b.straggling_s
        assert a.calls.client.tolist() == b.calls.client.tolist()
        assert a.calls.completed.tolist() == b.calls.completed.tolist()
        assert a.calls.total_s.tolist() == b.calls.total_s.tolist()
    failed = np.concatenate([report.calls.total_s[~report.calls.completed] for report in full])
    assert (failed > 0.13).any(), "nobody was late"
    assert (failed < 0.13).any(), "nobody was lost"
    assert any(len(report.calls) < 8 for report in full), "everybody was there and kept"
