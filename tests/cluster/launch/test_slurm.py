"""The batch script, run by bash with programs that stand for Slurm's: with real Ray nodes, and with none."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from strata.cluster.cli import main
from tests.helpers.launching.ray_nodes import free_port
from tests.helpers.launching.slurm_programs import Slurm
from tests.helpers.small import small_overrides

ADDRESS = "127.0.0.1"


@pytest.fixture
def cluster_of(tmp_path):
    """Makes a Slurm of so many nodes, with a job in it that ends with the test."""
    made = []

    def make(nodes):
        made.append(Slurm(tmp_path, nodes, free_port()))
        return made[-1]

    yield make
    for slurm in made:
        slurm.close()


def script(folder, *words, method="permfl"):
    path = folder / "job.slurm"
    assert main(["launch", "slurm", method, *words, "--name", "strata-test", "--output", str(path)]) == 0
    return path


def finished(process, code):
    out, _ = process.communicate(timeout=150)
    assert process.returncode == code, out
    return out


def wait_until(true, process):
    for _ in range(1200):
        if true():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("not within two minutes")


def last_state(folder):
    (run_dir,) = folder.glob("permfl-*")
    newest = sorted((run_dir / "checkpoints").glob("round-*"))[-1]
    state = json.loads((newest / "state.json").read_text())
    return newest.name, state["tensors_sha256"], state["state"], (run_dir / "metrics.jsonl").read_bytes()


def alive(pid):
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_three_ray_nodes_make_a_run_that_is_out_of_time_and_goes_on_to_the_bits_of_one_process(tmp_path, cluster_of):
    words = small_overrides("permfl", "rounds=60", "clients.count=3", "checkpoint.every=100", "evaluation.every=20")
    assert main(["run", "permfl", *words, f"output={tmp_path}/here"]) == 0
    joined = [word for word in words if word != "runtime=inprocess"]
    slurm = cluster_of(3)
    batch = script(tmp_path, *joined, "clients.num_cpus=0.5", "ray.placement=spread", "--nodes", "3", "--cpus", "2")

    job = slurm.start(batch, STUB_ONE_BY_ONE="1")
    wait_until(lambda: list(slurm.work.glob("*/metrics.jsonl")), job)
    (token,) = slurm.work.glob(".ray*")
    assert token.stat().st_mode & 0o077 == 0
    job.send_signal(signal.SIGUSR1)  # as Slurm does before the job's time is over
    out = finished(job, code=130)
    assert "on 3 nodes" in out
    assert "queued again" in out
    assert slurm.asked()[-2:] == [
        f"scontrol requeue {slurm.job}",
        f"srun --nodes=3 --ntasks=3 --overlap rm -rf /tmp/ray-{slurm.job}",
    ]
    assert not token.exists()
    assert len((next(slurm.work.glob("*/metrics.jsonl"))).read_text().splitlines()) < 60

    out = finished(slurm.start(batch, STUB_ONE_BY_ONE="1"), code=0)
    assert "Resumed after round" in out
    assert slurm.asked().count(f"scontrol requeue {slurm.job}") == 1
    assert last_state(slurm.work) == last_state(tmp_path / "here")
    assert not Path(f"/tmp/ray-{slurm.job}").exists()


LISTENER = "exec {python} -c 'import socket, time; s = socket.create_server((\"127.0.0.1\", {port})); time.sleep(60)'"


@pytest.fixture
def quick(tmp_path, cluster_of):
    """Makes a job whose Ray is a socket that listens, and whose run is a line of bash."""

    def make(nodes=1, ray=None, strata="exit 0", more=()):
        slurm = cluster_of(nodes)
        listener = LISTENER.format(python=sys.executable, port=20000 + slurm.job % 20000)
        head_only = f'if [[ "$*" == *--head* ]]; then {listener}; fi; exec sleep 60'
        venv = slurm.environment_with(ray=head_only if ray is None else ray, strata=strata)
        return slurm, script(tmp_path, "--nodes", str(nodes), "--venv", str(venv), *more)

    return make


def test_the_run_is_told_where_ray_is_and_its_exit_code_is_the_jobs(tmp_path, quick):
    slurm, batch = quick(nodes=3, strata='sleep 1; printf "<%s>" "$@"; exit 7', more=["model.name=mlp", "seeds=[1,2]"])
    out = finished(slurm.start(batch), code=7)
    port = 20000 + slurm.job % 20000
    said = ["run", "permfl", "ray.start_timeout_s=300", "model.name=mlp", "seeds=[1,2]", "--continue"]
    said += [f"ray.address={ADDRESS}:{port}", "ray.nodes=3", f"output={slurm.work}"]
    assert "".join(f"<{word}>" for word in said) in out
    head, workers = [line for line in slurm.asked() if " ray start " in line]
    assert f"--nodelist=node1 --cpus-per-task=4 --overlap ray start --head --node-ip-address={ADDRESS}" in head
    assert "--dashboard-host=127.0.0.1" in head
    assert "srun --nodes=2 --ntasks=2 --nodelist=node2,node3 " in workers
    assert f"ray start --address={ADDRESS}:{port} " in workers
    assert not any("requeue" in line for line in slurm.asked())


def test_a_run_that_fails_of_itself_is_not_queued_again_and_one_that_was_cancelled_neither(tmp_path, quick):
    patient = 'trap "echo saved; exit 130" TERM; touch began; while :; do sleep 0.1; done'
    slurm, batch = quick(strata=patient)
    job = slurm.start(batch)
    wait_until((tmp_path / "began").exists, job)
    job.send_signal(signal.SIGTERM)
    assert "saved" in finished(job, code=130)
    assert not any("requeue" in line for line in slurm.asked())


def test_processes_are_ended_with_the_job(tmp_path, quick):
    slurm, batch = quick(ray="echo $$ >> pids; exec sleep 60", more=["--nodes", "1"])
    job = slurm.start(batch, STRATA_WAIT_S="2")
    out = finished(job, code=1)
    assert f"strata-test: Ray's head did not answer at {ADDRESS}:{20000 + slurm.job % 20000} within 2 s" in out
    (pid,) = (tmp_path / "pids").read_text().split()
    assert not alive(pid)


def test_a_head_that_ends_as_it_starts_ends_the_job_with_its_words(tmp_path, quick):
    slurm, batch = quick(ray="echo 'no space left'; exit 3")
    out = finished(slurm.start(batch), code=1)
    assert "no space left" in out
    assert "strata-test: Ray's head ended as it started" in out


def test_fewer_nodes_than_the_file_was_written_for_are_refused(tmp_path, quick):
    slurm, batch = quick(nodes=3)
    assert "expected 3 nodes, the job has 2: node1 node2" in finished(slurm.start(batch, STUB_NODES="2"), code=1)


def test_an_environment_without_strata_is_named(tmp_path, quick):
    slurm, batch = quick()
    os.remove(tmp_path / "venv/bin/strata")
    out = finished(slurm.start(batch, PATH="/usr/bin:/bin"), code=1)
    assert f"no strata in {tmp_path}/venv/bin" in out


def test_only_the_run_has_the_key_of_weights_and_biases(tmp_path, quick):
    (tmp_path / "key").write_text("k3y\n")
    listens = f'echo "node $WANDB_API_KEY."; {LISTENER}'
    slurm, batch = quick(strata='echo "run $WANDB_API_KEY."', more=["--wandb-secret", str(tmp_path / "key")])
    ray = tmp_path / "venv/bin/ray"
    ray.write_text("#!/bin/bash\n" + listens.format(python=sys.executable, port=20000 + slurm.job % 20000))
    out = finished(slurm.start(batch), code=0)
    assert "run k3y." in out
    assert "node ." in out
    assert "k3y" not in batch.read_text()


def test_what_slurm_is_asked_for_stands_in_the_file(tmp_path):
    more = ["--nodes", "5", "--cpus", "16", "--gpus", "2", "--memory", "64", "--time", "1-00:00:00", "--grace", "300"]
    text = script(tmp_path, *more, "--partition", "gpu", "--account", "lab").read_text()
    asked = dict(
        line.removeprefix("#SBATCH --").split("=")
        for line in text.splitlines()
        if line.startswith("#SBATCH --") and "=" in line
    )
    assert asked == {
        "job-name": "strata-test",
        "nodes": "5",
        "ntasks-per-node": "1",
        "cpus-per-task": "16",
        "gpus-per-node": "2",
        "mem": "64G",
        "partition": "gpu",
        "account": "lab",
        "time": "1-00:00:00",
        "signal": "B:USR1@300",
        "open-mode": "append",
        "output": "%x-%j.log",
    }
    assert "--num-gpus=2" in text
