"""What rewards rest on, from what a round came to."""

from strata.engine.clock.delays import straggling_s
from strata.engine.method.calls import PROBE, CallTable
from strata.engine.method.situation import Report


def report_of_round(calls: CallTable, round_s: float, straggling_s: float, accuracy: float | None) -> Report:
    """The report of a round, without its probes, which were reported before it began.

    Args:
        calls: all client calls of the round.
        round_s: virtual seconds that it took.
        straggling_s: max − min seconds of its participants.
        accuracy: of its evaluation, 0..1; None without.
    """
    return Report(calls.where(calls.status != PROBE), round_s, straggling_s, accuracy)


def report_of_probes(calls: CallTable) -> Report:
    """The report of probes that clients make side by side: together they take as long as the slowest, without any 0."""
    seconds = calls.total_s.tolist()
    return Report(calls, max(seconds, default=0.0), straggling_s(seconds))
