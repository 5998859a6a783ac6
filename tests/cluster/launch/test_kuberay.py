"""Files for KubeRay, parsed and held against the schema of its CRDs, and what they keep closed."""

import copy
import shlex

import pytest
import ray
import yaml
from jsonschema import Draft202012Validator

from strata.cluster.cli import main
from strata.engine.config.load import load_config
from tests.helpers.launching.kuberay_schema import SCHEMAS

BOTH = pytest.mark.parametrize("standing", [[], ["--standing"]], ids=["job", "cluster"])
WHOLE = ["--nodes", "3", "--cpus", "8", "--gpus", "2", "--wandb-secret", "wandb-key", "--name", "mine"]


def written(tmp_path, *words):
    """The objects in the file, by kind."""
    path = tmp_path / "kube.yaml"
    assert main(["launch", "kuberay", *words, "--image", "here/strata:1", "--output", str(path)]) == 0
    documents = list(yaml.safe_load_all(path.read_text()))
    return {document["kind"]: document for document in documents}


def slips(documents):
    checks = {kind: Draft202012Validator(SCHEMAS[kind]) for kind in documents}
    return [error.message for kind, document in documents.items() for error in checks[kind].iter_errors(document)]


def cluster_of(documents):
    return documents["RayJob"]["spec"]["rayClusterSpec"] if "RayJob" in documents else documents["RayCluster"]["spec"]


def templates(documents):
    cluster = cluster_of(documents)
    return [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster.get("workerGroupSpecs", []))]


@BOTH
@pytest.mark.parametrize("options", [WHOLE, []], ids=["all options", "defaults"])
def test_the_file_fits_the_schema(tmp_path, standing, options):
    documents = written(tmp_path, "permfl", *options, *standing)
    assert list(documents) == ["PersistentVolumeClaim", "NetworkPolicy", "RayCluster" if standing else "RayJob"]
    assert slips(documents) == []


def test_a_slip_is_seen(tmp_path):
    documents = written(tmp_path, "permfl", *WHOLE)
    for change, message in (
        (lambda job: job.update(submissionMode="HttpMode"), "'HttpMode' is not one of"),
        (lambda job: job["rayClusterSpec"].update(authOption={}), "'authOption' was unexpected"),
        (
            lambda job: job["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update(cpus=4),
            "4 is not of type 'string'",
        ),
        (lambda job: job["rayClusterSpec"]["workerGroupSpecs"][0].pop("groupName"), "'groupName' is a required"),
    ):
        broken = copy.deepcopy(documents)
        change(broken["RayJob"]["spec"])
        (said,) = slips(broken)
        assert message in said


@BOTH
def test_nodes_are_what_was_asked_for(tmp_path, standing):
    documents = written(tmp_path, "permfl", *WHOLE, *standing)
    cluster = cluster_of(documents)
    (workers,) = cluster["workerGroupSpecs"]
    assert [workers[key] for key in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 2]
    assert cluster["rayVersion"] == ray.__version__
    for template in templates(documents):
        (container,) = template["spec"]["containers"]
        assert container["image"] == "here/strata:1"
        expected = {"cpu": "8", "memory": "8Gi", "nvidia.com/gpu": "2"}
        assert container["resources"] == {"requests": expected, "limits": expected}
    one = cluster_of(written(tmp_path, "permfl", "--force", *standing))
    assert "workerGroupSpecs" not in one


@BOTH
def test_token_and_key_come_from_secrets_and_only_the_head_has_the_key(tmp_path, standing):
    documents = written(tmp_path, "permfl", *WHOLE, "--token-secret", "tok", *standing)
    assert cluster_of(documents)["authOptions"] == {"mode": "token", "secretName": "tok"}
    head, worker = ({e["name"]: e for e in t["spec"]["containers"][0]["env"]} for t in templates(documents))
    assert head["WANDB_API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "wandb-key", "key": "api_key"}}
    assert "WANDB_API_KEY" not in worker


@BOTH
def test_no_container_has_privileges_and_nothing_is_reached_from_outside(tmp_path, standing):
    documents = written(tmp_path, "permfl", *WHOLE, *standing)
    name = documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    for template in templates(documents):
        assert template["metadata"]["labels"] == name
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "privileged": False, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}
        }  # fmt: skip
    head = cluster_of(documents)["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["enableIngress"] is False
    inside, *operator = documents["NetworkPolicy"]["spec"]["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": name}}]}
    if standing:
        assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
        assert operator == []
    else:  # KubeRay reads a job's state from the dashboard
        assert [rule["ports"] for rule in operator] == [[{"protocol": "TCP", "port": 8265}]]
        (peer,) = operator[0]["from"]
        assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}}


def test_the_job_runs_the_words_whatever_is_in_them(tmp_path):
    words = ["delays.classes={raspberry_pi_4: 1, laptop: 3}", 'data.name=it\'s "$(here)"', "rounds=7"]
    job = written(tmp_path, "permfl", *words, "--nodes", "2")["RayJob"]["spec"]
    head, run, method, wait, *rest = shlex.split(job["entrypoint"])
    assert [head, run, method, wait] == ["strata", "run", "permfl", "ray.start_timeout_s=300"]
    assert rest == [*words, "ray.address=auto", "ray.nodes=2", "output=/runs", "--continue"]
    config = load_config(method, rest[:-1])
    assert (config.data.name, config.rounds) == ('it\'s "$(here)"', 7)
    assert job["backoffLimit"] == 2
    mounts = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert mounts == [{"name": "runs", "mountPath": "/runs"}]
