"""Reports: what rewards rest on."""

import numpy as np

from strata.engine.method.calls import LATE, LOST, OK, PROBE, CallTable
from strata.engine.rounds.records import report_of_probes, report_of_round
from tests.helpers.calls import table


def test_probes_take_as_long_as_the_slowest():
    report = report_of_probes(table([3, 5], latency_s=[1.0, 4.0]))
    assert (report.round_s, report.straggling_s) == (4.0, 3.0)


def test_nobodys_probes_take_no_time():
    report = report_of_probes(CallTable.of([]))
    assert (report.round_s, report.straggling_s, len(report.calls)) == (0.0, 0.0, 0)


def test_a_round_is_reported_without_its_probes():
    status = np.array([PROBE, OK, LATE, PROBE, LOST], np.int8)
    calls = table([3, 0, 1, 1, 2], status=status, latency_s=np.arange(5.0), metrics={"found": np.arange(5.0)})
    report = report_of_round(calls, 7.0, 2.5, 0.75)
    assert report.calls.client.tolist() == [0, 1, 2]
    assert report.calls.status.tolist() == [OK, LATE, LOST]
    assert report.calls.metrics["found"].tolist() == [1.0, 2.0, 4.0]
    assert (report.round_s, report.straggling_s, report.accuracy, report.gain) == (7.0, 2.5, 0.75, 0.0)


def test_probes_are_made_side_by_side():
    seconds = {"latency_s": np.array([1.0, 0.5, 2.0]), "compute_s": np.array([1.0, 5.0, 0.0])}
    report = report_of_probes(table([0, 1, 2], **seconds))
    assert (report.round_s, report.straggling_s, report.accuracy) == (5.5, 5.5 - 2.0, None)
    assert len(report.calls) == 3


def test_a_single_probe_makes_nobody_wait():
    assert report_of_probes(table([4], compute_s=np.array([3.0]))).straggling_s == 0.0
