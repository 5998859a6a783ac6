"""Files for Ray's cluster launcher, held against Ray's own schema by Ray's own check."""

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from strata.cluster.cli import main

LOCAL = ["--head", "10.0.0.1", "--workers", "10.0.0.2,10.0.0.3", "--user", "me", "--nodes", "3"]
AWS = ["--provider", "aws", "--image", "here/strata:1", "--nodes", "3", "--region", "eu-west-1"]
BOTH = pytest.mark.parametrize("options", [LOCAL, AWS], ids=["local", "aws"])


def written(tmp_path, *options):
    path = tmp_path / "up.yaml"
    assert main(["launch", "ray-up", "permfl", *options, "--output", str(path)]) == 0
    return yaml.safe_load(path.read_text())


@BOTH
@pytest.mark.parametrize("more", [[], ["--gpus", "4", "--wandb-secret", "~/.netrc"]])
def test_ray_takes_the_file(tmp_path, options, more):
    config = written(tmp_path, *options, *more)
    whole = prepare_config(config)  # as `ray up` does
    validate_config(whole)
    assert whole["max_workers"] == 2


def test_ray_refuses_a_slip(tmp_path):
    config = written(tmp_path, *LOCAL)
    config["head_start_ray_command"] = config.pop("head_start_ray_commands")
    with pytest.raises(Exception, match="head_start_ray_command"):
        validate_config(prepare_config(config))


@BOTH
def test_the_token_is_copied_the_dashboard_is_on_loopback_and_a_container_has_no_privileges(tmp_path, options):
    config = written(tmp_path, *options, "--token-secret", "~/secret/token", "--wandb-secret", "~/w")
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/secret/token", "~/.netrc": "~/w"}
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [line for line in starts if "ray start" in line]
    assert len(starts) == 2
    assert all(line.startswith("RAY_AUTH_MODE=token ") for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    if options is AWS:
        assert config["docker"]["run_options"] == ["--cap-drop=ALL", "--security-opt=no-new-privileges"]


def test_machines_are_those_that_were_named(tmp_path):
    local = written(tmp_path, *LOCAL, "--cpus", "16", "--gpus", "2")
    assert local["provider"] == {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    assert all("--num-cpus=16 --num-gpus=2" in local[f"{part}_start_ray_commands"][1] for part in ("head", "worker"))
    aws = written(tmp_path, *AWS, "--gpus", "1", "--instance", "g5.xlarge", "--force")
    assert {kind: has["resources"] for kind, has in aws["available_node_types"].items()} == {
        "head": {"CPU": 4, "GPU": 1}, "worker": {"CPU": 4, "GPU": 1}
    }  # fmt: skip
    assert aws["available_node_types"]["worker"]["node_config"] == {"InstanceType": "g5.xlarge"}
    assert "--gpus=all" in aws["docker"]["run_options"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (LOCAL[2:], "--head: expected with --provider local"),
        (AWS[:2], "--image: expected with --provider aws"),
        ([*LOCAL[:-1], "4"], "--workers: 2 addresses, expected 3"),
        ([*LOCAL, "--user", "me; rm -rf /"], "--user 'me; rm -rf /': expected letters"),
    ],
)
def test_what_is_missing_or_odd_is_named(tmp_path, capsys, options, says):
    assert main(["launch", "ray-up", "permfl", *options, "--output", str(tmp_path / "up.yaml")]) == 1
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "up.yaml").exists()
