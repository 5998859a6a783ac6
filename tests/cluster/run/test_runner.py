"""Runs that were begun go on where their folders say (`strata run … --continue`); signals."""

import json
import signal

import pytest

from strata.cluster.cli import main
from strata.cluster.run import runner
from tests.helpers.small import small_overrides


def run(folder, *words):
    return main(["run", "fedavg", *small_overrides("fedavg", f"output={folder}", *words), "--continue"])


def rounds(folder):
    """How many rounds each run's folder holds, by seed."""
    paths = folder.glob("*/metrics.jsonl")
    return {path.parent.name.rsplit("seed")[-1]: len(path.read_text().splitlines()) for path in paths}


def test_what_was_begun_goes_on_and_what_was_not_begins(tmp_path, capsys):
    assert run(tmp_path, "rounds=1", "seed=1") == 0
    assert "Resumed" not in capsys.readouterr().out
    assert run(tmp_path, "rounds=2", "seeds=[1,12]") == 0
    assert capsys.readouterr().out.count("Resumed after round 1") == 1
    assert rounds(tmp_path) == {"1": 2, "12": 2}
    (first,) = tmp_path.glob("*seed1/metrics.jsonl")
    assert [json.loads(line)["round"] for line in first.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("other", ["method.lr=0.5"])
def test_a_run_of_other_settings_is_not_gone_on_with(tmp_path, capsys, other):
    assert run(tmp_path, "rounds=1") == 0
    assert run(tmp_path, "rounds=2", other) == 1
    assert "it is of another run" in " ".join(capsys.readouterr().err.split())
    assert rounds(tmp_path) == {"0": 1}


def test_a_signal_that_the_system_repeats_is_noted_once():
    with runner._interrupts() as interrupted:
        assert not interrupted()
        for _ in range(3):
            signal.raise_signal(signal.SIGXCPU)
        assert interrupted()


def test_a_second_ctrl_c_is_immediate():
    with runner._interrupts() as interrupted:
        signal.raise_signal(signal.SIGUSR1)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_that_is_refused_leaves_no_folder(tmp_path, capsys):
    words = small_overrides("fedavg", f"output={tmp_path}")
    assert main(["run", "fedavg", *words, f"data={tmp_path / 'none'}"]) == 1
    assert main(["run", "fedavg", *words, "seeds=[1,2]", "clients.count=500"]) == 1
    assert "was not found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
