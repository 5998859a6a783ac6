"""`strata launch`: what it refuses, what it says, and a YAML file that becomes words."""

import shlex

import pytest

from strata.cluster.cli import main
from strata.cluster.launch.job import job_for
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError


def launch(*words):
    return main(["launch", *words])


def test_it_says_what_it_wrote_and_what_to_type_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch("slurm", "permfl", "rounds=3", "--nodes", "2") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "wrote strata-permfl.slurm; next:"
    assert second.split()[:2] == ["sbatch", "strata-permfl.slurm"]
    assert (tmp_path / "strata-permfl.slurm").is_file()


def test_what_is_there_already_is_kept_unless_forced(tmp_path, capsys):
    path = tmp_path / "Dockerfile"
    beside = tmp_path / "Dockerfile.dockerignore"
    beside.write_text("mine")
    assert launch("docker", "--output", str(path)) == 1
    assert f"{beside}: there already" in " ".join(capsys.readouterr().err.split()).replace(" Docker", "Docker")
    assert not path.exists()
    assert beside.read_text() == "mine"
    assert launch("docker", "--output", str(path), "--force") == 0
    assert beside.read_text() != "mine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["permfl", "no.such=1"], "no"),
        (["permfl", "runtime=inprocess"], "runtime=inprocess: a launch file starts Ray"),
        (["permfl", "ray.address=auto"], "ray.address: the launch file sets it itself"),
        (["permfl", "output=x"], "output: the launch file sets it itself"),
        (["permfl", "clients.num_gpus=0.5"], "clients.num_gpus=0.5: the nodes have no GPU"),
        (["permfl", "clients.classes.laptop.num_gpus=1"], "clients.num_gpus=1: the nodes have no GPU"),
        (["permfl", "--nodes", "0"], "--nodes 0: expected at least 1"),
        (["permfl", "--cpus", "0"], "--cpus 0: expected at least 1"),
        (["permfl", "--time", "8h"], "--time 8h: expected HH:MM:SS"),
        (["permfl", "--name", "Up Case"], "--name Up Case: expected up to 52"),
        (["permfl", "--partition", "a\n#SBATCH --wrap=x"], "--partition"),
        (["permfl", "--venv", "/x y"], "--venv '/x y': expected letters"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, capsys, words, says):
    path = tmp_path / "job"
    assert launch("slurm", *words, "--output", str(path)) == 1
    assert says in " ".join(capsys.readouterr().err.split())
    assert not path.exists()


def test_gpus_are_taken_where_nodes_have_some(tmp_path):
    assert launch("slurm", "permfl", "clients.num_gpus=0.5", "--gpus", "1", "--output", str(tmp_path / "job")) == 0


def test_a_file_becomes_words_that_give_the_same_run(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(
        "algorithm: fedavg\nrounds: 9\ndata: synthetic\nmethod:\n  lr: 1.0e-3\n"
        "delays:\n  classes: {laptop: 1, phone_mid: 3}\nclients:\n  count: 7\n  mode: sync\n"
    )
    job = job_for(str(path), ["clients.count=8"], "", 1, 1, 0)
    method, *words = job.words
    assert method == "fedavg"
    assert load_config(method, words[1:]) == load_config(str(path), ["clients.count=8"])
    assert job.name == "strata-fedavg"
    assert str(path) not in job.command()


def test_what_the_launch_file_sets_is_not_taken_from_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("algorithm: fedavg\noutput: results\nray: {address: auto, nodes: 3, num_cpus: 2}\nrounds: 3\n")
    words = job_for(str(path), [], "", 2, 4, 0).words
    assert words[0] == "fedavg"
    assert sorted(words[2:]) == ["ray.num_cpus=2", "rounds=3"]


def test_words_are_quoted_for_a_shell():
    job = job_for("permfl", ["delays.classes={laptop: 1}"], "", 1, 1, 0)
    assert shlex.split(job.command("output=$HOME/a b"))[2:] == [*job.words, "output=$HOME/a b", "--continue"]
    assert "'output=$HOME/a b'" in job.command("output=$HOME/a b")


def test_a_wrong_configuration_is_an_error_before_anything_else():
    with pytest.raises(ConfigError, match="nonsense"):
        job_for("nonsense", [], "", 1, 1, 0)
