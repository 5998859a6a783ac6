"""Which local Ray a command begins before it has imported what takes long."""

import subprocess
import sys

import pytest

from strata.cluster import early
from strata.cluster.early import begin_ray_among, local_ray_for


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (0, 0)),
        (["ray.num_cpus=3", "ray.num_gpus=1", "rounds=2"], (3, 1)),
        (["runtime=ray"], (0, 0)),
        (["runtime=inprocess"], None),
        (["ray.address=auto"], None),
        (["ray.num_cpus=many"], None),
        (["ray.num_cpus=true"], None),
        (["ray.num_cpus=-1"], None),
        (["ray=5"], None),
        (["no setting"], None),
    ],
)
def test_words_say_whether_a_local_ray_will_be_needed(words, expected):
    assert local_ray_for("fedavg", words) == expected


def test_a_file_says_so_too_and_words_come_after_it(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("algorithm: fedavg\nruntime: inprocess\nray: {num_cpus: 3}\n")
    assert local_ray_for(str(path), []) is None
    assert local_ray_for(str(path), ["runtime=ray"]) == (3, 0)
    assert local_ray_for(str(path), ["runtime=ray", "ray.num_cpus=1"]) == (1, 0)
    assert local_ray_for(str(tmp_path / "missing.yaml"), []) is None


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["permfl", "fedavg:method.lr=0.1", "ray.num_cpus=2"], [("permfl", ["ray.num_cpus=2"])]),
        (["fedavg:method.lr=0.1", "delays.classes={laptop: 1}"], [("fedavg", ["delays.classes={laptop: 1}"])]),
        (["permfl", "fedavg:runtime=inprocess"], []),
        (["permfl:ray.num_cpus=3", "fedavg"], []),
        (["rounds=2"], []),
    ],
)
def test_a_comparison_asks_for_what_its_first_method_runs_on(monkeypatch, words, asked):
    seen = []
    monkeypatch.setattr(early, "begin_ray", lambda source, overrides: seen.append((source, overrides)))
    begin_ray_among(words)
    assert seen == asked


def test_it_is_found_out_without_torch():
    code = (
        "import sys; from strata.cluster.early import local_ray_for; local_ray_for('fedavg', []); "
        "from strata.engine.runtime import local_ray; assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
