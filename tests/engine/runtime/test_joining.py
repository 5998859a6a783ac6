"""Joining clusters of `ray start` whose nodes differ: in code, in packages, in number, in who may join them."""

import json
import os
import socket
from pathlib import Path

import pytest

import strata.engine
from strata.cluster.cli import main
from tests.helpers.launching.ray_nodes import ray_nodes
from tests.helpers.small import small_overrides

pytestmark = pytest.mark.slow

SPREAD = ("clients.num_cpus=0.5", "clients_per_actor=1", "ray.placement=spread", "ray.start_timeout_s=100")
HERE = os.environ.get("PYTHONPATH", "")


@pytest.fixture(scope="module")
def old_code(tmp_path_factory):
    """A folder with another Strata, which cannot even be imported."""
    top = tmp_path_factory.mktemp("old") / "strata"
    for path in ("__init__.py", "engine/__init__.py", "algorithms/__init__.py"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text("" if path == "__init__.py" else "raise RuntimeError('the old code')")
    return str(top.parent)


@pytest.fixture(scope="module")
def cluster(old_code):
    """Three nodes with a token; on one of them is an old Strata."""
    with ray_nodes() as nodes:
        nodes.start_head()
        nodes.start_worker()
        nodes.start_worker(PYTHONPATH=old_code)
        yield nodes


def digest(folder):
    """What the run in a folder came to: the hash of its last checkpoint, and its metrics without wall seconds."""
    (run_dir,) = Path(folder).iterdir()
    state = json.loads((sorted((run_dir / "checkpoints").glob("round-*"))[-1] / "state.json").read_text())
    return state["tensors_sha256"], state["state"], (run_dir / "metrics.jsonl").read_bytes()


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["fedavg", "permfl", "hapfl"])
def test_three_nodes_of_which_one_has_old_code_give_the_digests_of_one_process(cluster, tmp_path, method):
    words = [*small_overrides(method, "rounds=2", "clients.count=3")]
    assert main(["run", method, *words, f"output={tmp_path}/here"]) == 0
    joined = [word for word in words if word != "runtime=inprocess"]
    done = cluster.run(
        "run", method, *joined, *SPREAD, f"ray.address={cluster.address}", "ray.nodes=3", f"output={tmp_path}/there"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sent the code of strata to the nodes, " in done.stdout
    assert "on 3 nodes" in done.stdout
    assert "data: 475,200 bytes went through the object store, once to each of 3 nodes" in done.stdout
    assert digest(tmp_path / "there") == digest(tmp_path / "here")


@pytest.mark.exhaustive
def test_who_has_another_token_may_not_join(cluster, tmp_path):
    (tmp_path / "token").write_text("0" * 64)
    words = ["run", "permfl", *small_overrides("permfl", runtime="ray"), f"ray.address={cluster.address}"]
    done = cluster.run(*words, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert done.returncode == 1
    assert f"ray.address={cluster.address}: no Ray cluster answers there" in " ".join(done.stderr.split())
    assert "give this machine its token" in done.stderr


@pytest.mark.exhaustive
def test_too_few_nodes_are_waited_for_and_then_named(cluster):
    words = [*small_overrides("permfl", runtime="ray"), f"ray.address={cluster.address}", "ray.start_timeout_s=4"]
    done = cluster.run("run", "permfl", *words, "ray.nodes=9")
    assert done.returncode == 1
    assert "ray.nodes=9: 3 joined within 4 s: " in done.stderr
    assert done.stderr.count(f"{socket.gethostname()} (") == 3


@pytest.mark.exhaustive
def test_a_node_with_another_torch_is_refused_by_name_before_any_actor_starts(cluster, tmp_path):
    record = tmp_path / "torch-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    cluster.start_worker("127.0.0.2", PYTHONPATH=os.pathsep.join([str(tmp_path), HERE]))
    words = [*small_overrides("permfl", runtime="ray"), f"ray.address={cluster.address}", *SPREAD]
    done = cluster.run("run", "permfl", *words, "ray.nodes=4")
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert f"error: node {socket.gethostname()} (127.0.0.2): torch 1.0, expected 2." in said
    assert said.count(f"{socket.gethostname()} (") == 1
    assert "client actor" not in done.stdout


def test_the_old_code_is_none_of_ours(old_code):
    assert old_code not in str(strata.engine.__file__)
