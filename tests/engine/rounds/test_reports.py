"""Reports: what rewards rest on."""

from strata.engine.method.calls import CallTable
from strata.engine.rounds.reports import report_of_probes
from tests.helpers.calls import table


def test_probes_take_as_long_as_the_slowest():
    report = report_of_probes(table([3, 5], latency_s=[1.0, 4.0]))
    assert (report.round_s, report.straggling_s) == (4.0, 3.0)


def test_nobodys_probes_take_no_time():
    report = report_of_probes(CallTable.of([]))
    assert (report.round_s, report.straggling_s, len(report.calls)) == (0.0, 0.0, 0)
