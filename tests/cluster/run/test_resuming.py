"""A run that is resumed does what it was asked for, or is refused before anything of it is rewritten."""

import pytest
import yaml

import strata
from strata.cluster.cli import main
from strata.engine.errors import CheckpointError, ConfigError
from tests.helpers.small import small_overrides


@pytest.fixture
def done(tmp_path):
    """The folder of a run that has made three rounds, with checkpoints of the last two."""
    words = small_overrides("fedavg", "rounds=3", "checkpoint.every=1", f"output={tmp_path}/runs")
    assert main(["run", "fedavg", *words]) == 0
    (run_dir,) = (tmp_path / "runs").iterdir()
    return run_dir


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(run_dir, capsys, *words):
    """What a resume is refused with, which has left every byte of the run as it was."""
    before = contents(run_dir)
    capsys.readouterr()
    assert main(["run", f"resume={run_dir}", *words]) == 1
    assert contents(run_dir) == before
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("rounds=2", "rounds=2: expected 3 or more, since 3 rounds of"),
        ("seeds=[1,2]", "seeds=[1, 2]: expected none, since"),
        ("output=elsewhere", "output=elsewhere: expected none, since a run that is resumed stays in its folder"),
        ("method.lr=0.5", "it is of another run: method.lr is 0.01 there and 0.5 here."),
    ],
)
def test_what_a_resume_does_not_do_is_refused(done, capsys, word, says):
    error = refused(done, capsys, word)
    assert says in error
    assert "delete" not in error


def test_what_changes_nothing_is_taken(done, monkeypatch):
    monkeypatch.chdir(done.parent)
    assert main(["run", f"resume={done.name}", "rounds=4", "seed=0", "seeds=[]", "output=."]) == 0
    assert strata.load_run(done).rounds == 4


def test_going_on_with_the_newest_run_asks_the_same_of_it(done, capsys):
    before = contents(done)
    words = small_overrides("fedavg", "rounds=2", f"output={done.parent}")
    assert main(["run", "fedavg", *words, "--continue"]) == 1
    assert "rounds=2: expected 3 or more" in " ".join(capsys.readouterr().err.split())
    assert contents(done) == before


def test_in_python_too(done):
    with pytest.raises(CheckpointError, match="rounds=2: expected 3 or more"):
        strata.run(resume=done, rounds=2, quiet=True)
    with pytest.raises(ConfigError, match=r"seeds=\[4\]: expected none"):
        strata.run(resume=done, seeds=[4], quiet=True)


@pytest.mark.parametrize(("order", "line", "found"), [([0, 1, 2, 0], 4, 1), ([0, 2], 2, 3), ([1, 0, 2], 1, 2)])
def test_rounds_that_were_added_lost_or_exchanged_are_found(done, capsys, order, line, found):
    path = done / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[place] for place in order))
    error = refused(done, capsys, "rounds=8")
    assert f"{path}, line {line}: expected round {line}, found {found}: lines were added, lost or exchanged." in error


@pytest.mark.parametrize("lines", [0, 2])
def test_rounds_before_the_checkpoint_that_are_missing_are_no_rounds(done, capsys, lines):
    path = done / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    error = refused(done, capsys, "rounds=5")
    assert f"{path}: expected the 3 rounds before {done}/checkpoints/round-000003, found {lines} of them." in error


def test_more_rounds_than_the_checkpoint_has_are_made_again(done):
    (done / "checkpoints" / "round-000003").rename(done / "aside")
    assert main(["run", f"resume={done}"]) == 0
    assert strata.load_run(done).rounds == 3


def damage(done, number):
    tensors = done / "checkpoints" / f"round-{number:06d}" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")


def test_an_older_checkpoint_is_named_where_it_helps(done, capsys):
    damage(done, 3)
    error = refused(done, capsys, "rounds=4")
    older, newest = (done / "checkpoints" / f"round-00000{number}" for number in (2, 3))
    assert f"{older} is whole: to continue from it, move {newest} elsewhere." in error
    newest.rename(done / "aside")
    assert main(["run", f"resume={done}", "rounds=4"]) == 0
    assert strata.load_run(done).rounds == 4


def test_an_older_checkpoint_is_not_named_where_it_does_not_help(done, capsys):
    for number in (2, 3):
        damage(done, number)
    error = refused(done, capsys, "rounds=4")
    assert "round-000003: tensors.safetensors is damaged" in error
    assert "elsewhere" not in error


def test_a_file_that_stands_for_another_is_named(tmp_path, capsys):
    traces = {}
    for name in ("fast", "slow"):
        traces[name] = tmp_path / f"{name}.csv"
        speed = {"fast": "1e9", "slow": "1e8"}[name]
        header = "client,flops_per_s,down_bytes_per_s,up_bytes_per_s,latency_s\n"
        traces[name].write_text(header + f"0,{speed},1e6,1e6,0.1\n")
    trace = ("delays=trace", f"delays.trace={traces['fast']}")
    assert main(["run", "fedavg", *small_overrides("fedavg", *trace, f"output={tmp_path}/runs")]) == 0
    (run_dir,) = (tmp_path / "runs").iterdir()
    error = refused(run_dir, capsys, f"delays.trace={traces['slow']}")
    assert "it is of another run: data is not what it was" in error
    assert f"delays.trace was '{traces['fast']}', and is '{traces['slow']}' now." in error
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["delays"]["trace"] == str(traces["fast"])


def test_a_run_without_a_checkpoint_says_that_it_begins_anew(done, capsys):
    rounds = (done / "metrics.jsonl").read_text()
    (done / "checkpoints").rename(done / "aside")
    assert main(["run", f"resume={done}"]) == 0
    said = f"{done} has no checkpoint: its rounds are made anew"
    assert said in capsys.readouterr().out
    assert (done / "metrics.jsonl").read_text() == rounds
    assert main(["run", f"resume={done}"]) == 0
    assert said not in capsys.readouterr().out
