"""``strata check``: what is printed and returned for a sound method, a defective one, and one that breaks."""

import pytest

from strata.algorithms.fedavg import FedAvg
from strata.cluster.cli import main
from strata.cluster.conformance.examination import RUNS, STEPS

FEW = ("rounds=3", "data.limit=300", "clients.count=4", "method.batch_size=16", "method.lr=0.03")


class Hospitable(FedAvg):
    def global_step(self, g, ups, context):
        return super().global_step(g, ups, context) if ups else g


class Broken(FedAvg):
    def global_step(self, g, ups, context):
        return {}["no such key"]


def checked(capsys, source, *words):
    code = main(["check", source, *FEW, *words])
    return code, capsys.readouterr().out.splitlines()


def test_a_sound_method_has_a_line_for_each_check(capsys):
    code, lines = checked(capsys, "fedavg")
    every = 1 + len(STEPS) + len(RUNS)
    assert code == 0, lines
    assert lines[-1] == f"fedavg: {every} of {every} checks hold"
    assert len(lines) == every + 1
    assert all(line.startswith("holds     ") for line in lines[:-1])


def test_a_defect_is_said_with_what_to_do_and_the_others_are_tried(capsys):
    code, lines = checked(capsys, f"{__name__}:Hospitable")
    (failing,) = [line for line in lines if line.startswith("fails")]
    assert code == 1
    assert "Servers refuse to aggregate nothing, by an EmptyCohortError: global_step aggregates an empty" in failing
    assert "require_cohort(" in failing
    assert lines[-1].endswith(f"{len(lines) - 2} of {len(lines) - 1} checks hold")


def test_a_method_that_breaks_is_told_where_and_nothing_else_is_tried(capsys):
    code, (first, *others, last) = checked(capsys, f"{__name__}:Broken")
    assert code == 1
    assert first.startswith("fails ")
    assert "KeyError: 'no such key'" in first
    assert "test_check_method.py, line " in first
    assert "in global_step" in first
    assert all(line.startswith("left out") for line in others)
    assert f"0 of {len(others) + 1} checks hold" in last


@pytest.mark.parametrize(("source", "says"), [("fedavgg", "Did you mean fedavg"), ("fedavg rouns=3", "rounds")])
def test_what_cannot_be_checked_is_an_error(capsys, source, says):
    assert main(["check", *source.split()]) == 1
    assert says in capsys.readouterr().err
