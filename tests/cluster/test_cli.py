"""The command as a user runs it: real processes, real output."""

import ast
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from strata.cluster.cli import main
from strata.cluster.sinks.by_client import calls_by_round
from strata.engine.config.load import load_config
from tests.bench.processes import family
from tests.helpers.small import small_overrides

STRATA = [sys.executable, "-m", "strata.cluster.cli"]
ROOT = Path(__file__).parent.parent.parent


def start(*arguments):
    return subprocess.Popen(
        [*STRATA, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def finish(process, code=0):
    out, _ = process.communicate(timeout=120)
    assert process.returncode == code, out
    return out


def only_run(folder):
    (run_dir,) = Path(folder).iterdir()
    return run_dir


def rounds_written(folder):
    found = list(Path(folder).glob("*/metrics.jsonl"))
    return len(found[0].read_text().splitlines()) if found else 0


def wait_for_rounds(process, folder, rounds):
    for _ in range(1200):
        if rounds_written(folder) >= rounds:
            return
        assert process.poll() is None, f"it ended early: {process.communicate()[0]}"
        time.sleep(0.05)
    raise AssertionError("no rounds within a minute")


def final_state(run_dir):
    newest = sorted((run_dir / "checkpoints").glob("round-*"))[-1]
    state = json.loads((newest / "state.json").read_text())
    return newest.name, state["tensors_sha256"], state["state"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedavg", pytest.param("permfl", marks=pytest.mark.exhaustive)])
def test_a_run_that_was_killed_outright_resumes_to_the_same_hashes(tmp_path, method):
    settings = ("rounds=60", "checkpoint.every=3", "clients_per_actor=8")
    words = ["run", method, *small_overrides(method, *settings, runtime="ray")]
    here = [word.replace("runtime=ray", "runtime=inprocess") for word in words]
    assert main([*here, f"output={tmp_path}/whole"]) == 0
    killed = start(*words, f"output={tmp_path}/killed")
    wait_for_rounds(killed, tmp_path / "killed", random.randint(2, 20))
    for pid in family(killed.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    killed.communicate(timeout=20)
    run_dir = only_run(tmp_path / "killed")
    done = rounds_written(tmp_path / "killed")
    assert done < 60, "it was over before it was killed"
    left = {path.name for path in (run_dir / "checkpoints").glob("*[0-9]*")}
    out = finish(start("run", f"resume={run_dir}"))
    # A round is written to the metrics before its checkpoint: killed between the two of round 3, there is none.
    assert "Resumed after round" in out or done <= 3
    whole = only_run(tmp_path / "whole")
    expected = final_state(whole)
    if "clients-1.db" in left and not any(name.startswith("round-") for name in left):
        expected[2]["fields"]["clients"]["fields"]["file"] = "clients-2.db"  # the first is nobody's
    assert final_state(run_dir) == expected
    assert (run_dir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_ctrl_c_leaves_a_run_that_can_be_resumed(tmp_path):
    words = ["run", "permfl", *small_overrides("permfl", "rounds=400", "evaluation.every=100", "checkpoint.every=0")]
    process = start(*words, f"output={tmp_path}")
    wait_for_rounds(process, tmp_path, 3)
    process.send_signal(signal.SIGINT)
    out = finish(process, code=130)
    run_dir = only_run(tmp_path)
    assert f"Continue with: strata run resume={run_dir}" in out
    done = rounds_written(tmp_path)
    assert 3 <= done < 400
    out = finish(start("run", f"resume={run_dir}", f"rounds={done + 2}"))
    assert f"Resumed after round {done}" in out
    assert rounds_written(tmp_path) == done + 2


@pytest.mark.parametrize(
    "name", ["SIGHUP", "SIGXCPU", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ("SIGTERM", "SIGUSR1"))]
)
def test_other_signals_do_too(tmp_path, name):
    words = ["run", "permfl", *small_overrides("permfl", "rounds=4000", "evaluation.every=100", "checkpoint.every=0")]
    process = start(*words, f"output={tmp_path}")
    wait_for_rounds(process, tmp_path, 2)
    process.send_signal(getattr(signal, name))
    assert "Continue with: strata run resume=" in finish(process, code=130)
    assert list(only_run(tmp_path).glob("checkpoints/round-*"))


def test_nobody_needs_to_read_what_a_run_prints(tmp_path):
    words = ["run", "permfl", *small_overrides("permfl", "rounds=30"), f"output={tmp_path}"]
    process = start(*words)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert rounds_written(tmp_path) == 30
    assert list(only_run(tmp_path).glob("checkpoints/round-000030"))


@pytest.mark.slow
def test_a_head_that_dies_ends_the_run_at_once_with_what_to_do(tmp_path):
    words = ["run", "fedavg", *small_overrides("fedavg", "rounds=4000", "clients_per_actor=4", runtime="ray")]
    process = start(*words, f"output={tmp_path}")
    wait_for_rounds(process, tmp_path, 2)
    started = family(process.pid)
    (head,) = [pid for pid in started if b"gcs_server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(head, signal.SIGKILL)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"Continue with: strata run resume={only_run(tmp_path)}" in out
    assert none_is_left(started)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_an_actor_that_dies_is_started_again_on_a_ray_of_the_runs_own(tmp_path):
    words = ["run", "fedavg", *small_overrides("fedavg", "rounds=40", "clients_per_actor=4", runtime="ray")]
    process = start(*words, "checkpoint.every=3", f"output={tmp_path}")
    wait_for_rounds(process, tmp_path, 5)
    victim = next(pid for pid in family(process.pid) if b"ray::Shell" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(victim, signal.SIGKILL)
    out = finish(process)
    assert "all actors began again" in out
    assert "failures survived" in out
    rounds = [json.loads(line)["round"] for line in (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()]
    assert rounds == list(range(1, 41))


def none_is_left(pids):
    """Whether the processes end within ten seconds; what nobody has asked for its exit code has ended all the same."""
    for _ in range(100):
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_damaged_checkpoint_is_refused_with_its_reason(tmp_path, capsys):
    words = small_overrides("permfl", "rounds=2", f"output={tmp_path}")
    assert main(["run", "permfl", *words]) == 0
    run_dir = only_run(tmp_path)
    tensors = run_dir / "checkpoints" / "round-000002" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    assert main(["run", f"resume={run_dir}", "rounds=3"]) == 1
    assert "tensors.safetensors is damaged" in " ".join(capsys.readouterr().err.split())
    assert main(["run", f"resume={tmp_path}/nothing"]) == 1
    assert "no run was found there" in " ".join(capsys.readouterr().err.split())


def test_a_resumed_run_may_not_change_what_enters_its_results(tmp_path, capsys):
    assert main(["run", "fedavg", *small_overrides("fedavg", "rounds=2", f"output={tmp_path}")]) == 0
    run_dir = only_run(tmp_path)
    assert main(["run", f"resume={run_dir}", "rounds=3", "method.lr=0.5"]) == 1
    assert "it is of another run" in " ".join(capsys.readouterr().err.split())


def test_several_seeds_give_mean_and_deviation(tmp_path, capsys):
    words = small_overrides("fedavg", "rounds=1", "seeds=[1,2,3]", f"output={tmp_path}")
    assert main(["run", "fedavg", *words]) == 0
    out = capsys.readouterr().out
    finals = []
    for seed in (1, 2, 3):
        (folder,) = tmp_path.glob(f"*seed{seed}")
        finals.append(json.loads((folder / "metrics.jsonl").read_text())["scores"]["GM"]["accuracy"] * 100)
    mean = sum(finals) / 3
    std = (sum((x - mean) ** 2 for x in finals) / 2) ** 0.5
    assert f"{mean:.2f}" in out
    assert f"{std:.2f}" in out


def test_compare_runs_on_the_same_clients_and_prints_one_table(tmp_path, capsys):
    words = [word for word in small_overrides("x", "rounds=1", f"output={tmp_path}")]
    assert main(["compare", "permfl", "fedavg", *words]) == 0
    table = capsys.readouterr().out.split("after the last round")[1]
    assert "permfl" in table
    assert "fedavg" in table
    metrics = tmp_path.glob("*/metrics.jsonl")
    runs = {path.parent.name.split("-")[0]: calls_by_round(path.parent)[1] for path in metrics}
    devices = {name: [call["device"] for call in calls[:8]] for name, calls in runs.items()}
    assert devices["permfl"][:4] == devices["fedavg"][:4]
    assert main(["compare", "rounds=1"]) == 1


def test_config_prints_a_file_that_runs(tmp_path, capsys):
    assert main(["config", "permfl", *small_overrides("permfl", "rounds=1", f"output={tmp_path}/runs")]) == 0
    printed = capsys.readouterr().out
    assert "gamma: 1.5  # γ" in printed
    (tmp_path / "mine.yaml").write_text(printed)
    assert main(["run", str(tmp_path / "mine.yaml")]) == 0
    assert load_config(str(only_run(tmp_path / "runs") / "config.yaml")).rounds == 1


def test_list_names_every_method(capsys):
    assert main(["list"]) == 0
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    lines = [row for row in rows if len(row) == 3]
    named = {row[0].strip() for row in rows if len(row) == 2} - {""}
    assert named == {path.stem for path in (ROOT / "algorithms" / "settings").glob("*.yaml")}
    tiers = {name.strip(): tiers.strip() for name, _, tiers in lines if name.strip()}
    assert list(tiers) == sorted(path.stem for path in (ROOT / "algorithms").glob("*.yaml"))
    assert (tiers["permfl"], tiers["fedavg"]) == ("global, team, client", "global, client")
    # A sentence that was wrapped goes on below.
    told = " ".join(sentence.strip() for _, sentence, _ in lines)
    for name in tiers:
        assert ast.get_docstring(ast.parse((ROOT / "algorithms" / f"{name}.py").read_text())).splitlines()[0] in told


def test_data_shows_who_holds_what(tmp_path, capsys):
    plot = tmp_path / "who.png"
    assert main(["data", "clients.count=6", "teams.count=2", "data.limit=600", "--plot", str(plot)]) == 0
    assert "6 clients, 2 teams" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"strata {version('strata-fl')}\n"


@pytest.mark.parametrize("command", ["", "run", "compare", "data", "calibrate", "list"])
def test_help_teaches(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*command.split(), "--help"])
    told, example, rest = capsys.readouterr().out.partition("example")
    assert example
    assert max(map(len, told.splitlines())) <= 80
    assert ("Settings are written key=value" in rest) == (command in ("run", "compare", "data"))


def test_without_a_cluster_an_address_fails_in_seconds(tmp_path, capsys):
    began = time.perf_counter()
    code = main(
        ["run", "permfl", *small_overrides("permfl", "ray.address=127.0.0.1:9", f"output={tmp_path}", runtime="ray")]
    )
    assert code == 1
    assert time.perf_counter() - began < 15
    assert "ray.address=127.0.0.1:9: no Ray cluster answers there" in " ".join(capsys.readouterr().err.split())


def test_an_output_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["run", "fedavg", *small_overrides("fedavg", f"output={tmp_path}/file")]) == 1
    assert "the run's folder cannot be made" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_running_cluster_is_joined_by_its_address_and_goes_on_without_the_run(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray_command = Path(sys.executable).with_name("ray")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}  # a token of its own
    subprocess.run([str(ray_command), "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    head = [
        str(ray_command),
        "start",
        "--head",
        f"--port={port}",
        "--num-cpus=2",
        "--include-dashboard=false",
        "--block",
    ]
    cluster = subprocess.Popen(head, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        words = small_overrides("permfl", f"ray.address=127.0.0.1:{port}", f"output={tmp_path}/runs", runtime="ray")
        wait_for_port(port)
        done = subprocess.run(
            [*STRATA, "run", "permfl", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 client actors with 4 clients each, 2 team servers beside their clients" in done.stdout
        assert cluster.poll() is None
        here = small_overrides("permfl", f"output={tmp_path}/here")
        assert main(["run", "permfl", *here]) == 0
        assert final_state(only_run(tmp_path / "runs")) == final_state(only_run(tmp_path / "here"))
        stranger = {**environment, "RAY_AUTH_TOKEN": "0" * 64}
        refused = subprocess.run(
            [*STRATA, "run", "permfl", *words], cwd=ROOT, env=stranger, capture_output=True, text=True, timeout=120
        )
        assert refused.returncode == 1
        assert "give this machine its token" in " ".join(refused.stderr.split())
        assert "Traceback" not in refused.stderr
    finally:
        for pid in family(cluster.pid):
            os.kill(pid, signal.SIGKILL)
        cluster.wait()


def wait_for_port(port):
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the cluster did not start within 30 s")


def test_what_was_answered_client_by_client_is_counted(tmp_path, capsys):
    words = small_overrides("fedproto", "rounds=2", "clients.count=3", f"output={tmp_path}", "training.batch_clients=4")
    assert main(["run", "fedproto", *words]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "training.batch_clients: 6 requests were answered client by client: features are averaged" in out
