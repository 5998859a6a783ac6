"""A sink that fails is reported once, and the run goes on."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from strata.cluster.sinks.sink import GuardedSink, RunInfo
from strata.engine.rounds.records import RoundRecord
from tests.helpers.records import record, run_info


class Recording:
    """A sink that notes its calls and fails where it is told to."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.calls = failing, list[str]()

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise OSError(f"no luck in {name}\nsecond line")

    def start(self, run: RunInfo) -> None:
        self._note("start")

    def round(self, record: RoundRecord) -> None:
        self._note("round")

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        self._note("finish")


def drive(sink: GuardedSink, tmp_path: Path) -> None:
    sink.start(run_info(tmp_path))
    for number in (1, 2, 3):
        sink.round(record(number))
    sink.finish({}, 0)


def test_a_guard_passes_everything_on(tmp_path: Path) -> None:
    inner, said = Recording(), list[str]()
    drive(GuardedSink(inner, "tracker", said.append), tmp_path)
    assert inner.calls == ["start", "round", "round", "round", "finish"]
    assert said == []


@pytest.mark.parametrize(
    ("failing", "calls"),
    [
        (["start"], ["start", "finish"]),
        (["round"], ["start", "round", "finish"]),
        (["finish"], ["start", "round", "round", "round", "finish"]),
        (["start", "finish"], ["start", "finish"]),
    ],
)
def test_a_failing_sink_is_reported_once_and_switched_off(tmp_path: Path, failing: list[str], calls: list[str]) -> None:
    inner, said = Recording(*failing), list[str]()
    drive(GuardedSink(inner, "tracker", said.append), tmp_path)
    assert inner.calls == calls
    (text,) = said
    assert text == (f"warning: tracker failed and is switched off; the run goes on. OSError: no luck in {failing[0]}")


def test_a_report_that_cannot_be_made_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(text: str) -> None:
        raise RuntimeError("the display is what failed")

    drive(GuardedSink(Recording("round"), "display", broken), tmp_path)
    assert capsys.readouterr().err.startswith("warning: display failed")


def test_ctrl_c_is_not_a_failure_of_a_sink(tmp_path: Path) -> None:
    class Interrupted(Recording):
        def round(self, record: RoundRecord) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(GuardedSink(Interrupted(), "tracker"), tmp_path)
