"""``strata calibrate``: the class that it writes loads, and has the speed that was measured and the link asked for."""

import shlex

import pytest
import torch

from strata.cluster import calibration
from strata.cluster.calibration import Speed
from strata.cluster.cli import main
from strata.engine.build import build_world
from strata.engine.clock.devices import SHIPPED, device_classes
from strata.engine.config.load import load_config

SPEEDS = [Speed("mlp", 1e6, [9e9, 1e9, 2e9]), Speed("cnn", 2e6, [8e9, 7e9, 8e9])]  # medians 2e9 and 8e9


@pytest.fixture
def measured(monkeypatch):
    """Speeds whose geometric mean is 4e9, and how often and where they were asked for."""
    asked = []
    monkeypatch.setattr(calibration, "measure", lambda *how: asked.append(how) or iter(SPEEDS))
    return asked


def calibrated(file, *more, name="mine"):
    return main(["calibrate", "--name", name, "--output", str(file), *more])


def test_what_it_writes_is_what_a_run_reads(tmp_path, capsys, measured):
    file = tmp_path / "devices.yaml"
    assert calibrated(file, "--repeats", "3") == 0
    assert measured == [(3, "cpu")]
    shown = capsys.readouterr().out
    following = shlex.split(shown.strip().splitlines()[-1])
    assert following[:3] == ["strata", "run", "fedavg"]
    profiles = build_world(load_config("fedavg", [*following[3:], "clients.count=6"])).profiles
    laptop = device_classes("")["laptop"]
    link = (laptop.down_bytes_per_s, laptop.up_bytes_per_s, laptop.latency_s)
    for profile in profiles:
        assert (profile.device, profile.flops_per_s) == ("mine", 4e9)
        assert (profile.down_bytes_per_s, profile.up_bytes_per_s, profile.latency_s) == link
    # A new file begins with the shipped classes, comments and all.
    assert file.read_text(encoding="utf8").startswith(SHIPPED.read_text(encoding="utf8").rstrip())


def test_the_link_is_that_of_another_class_but_for_what_is_given(tmp_path, measured):
    file = tmp_path / "devices.yaml"
    file.write_text("old: {flops_per_s: 1e9, down_bytes_per_s: 2e6, up_bytes_per_s: 3e6, latency_s: 0.5}\n")
    assert calibrated(file, "--like", "old", "--up", "7e5", "--latency", "0") == 0
    mine, old = device_classes(str(file))["mine"], device_classes(str(file))["old"]
    assert (mine.down_bytes_per_s, mine.up_bytes_per_s, mine.latency_s) == (2e6, 7e5, 0)
    assert old.latency_s == 0.5
    assert "network as old, but for what was given" in file.read_text()
    assert calibrated(file, name="other") == 0  # like laptop, which the file need not have
    assert device_classes(str(file))["other"].up_bytes_per_s == 6e6


def test_a_class_is_written_over_only_by_force_and_all_else_stays(tmp_path, capsys, measured):
    file = tmp_path / "devices.yaml"
    rest = "flops_per_s: 1e9\n  down_bytes_per_s: 2e6\n  up_bytes_per_s: 3e6\n  latency_s: 0.5\n"
    before = f"# mine\nmine:\n  {rest}\n# a note\nother:\n  {rest}"
    file.write_text(before)
    assert calibrated(file) == 1
    assert file.read_text() == before
    assert measured == []  # said before anything is measured
    assert "write in its place with --force" in " ".join(capsys.readouterr().err.split())
    assert calibrated(file, "--force") == 0
    assert file.read_text().startswith(f"# mine\n# a note\nother:\n  {rest}\nmine:\n")
    assert {name: kind.flops_per_s for name, kind in device_classes(str(file)).items()} == {"other": 1e9, "mine": 4e9}


def test_a_file_laid_out_otherwise_is_left_as_it_is(tmp_path, capsys, measured):
    file = tmp_path / "devices.yaml"
    before = "{mine: {flops_per_s: 1e9, down_bytes_per_s: 2e6, up_bytes_per_s: 3e6, latency_s: 0.5}}\n"
    file.write_text(before)
    assert calibrated(file, "--force") == 1
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["devices.yaml"]
    assert str(file) in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("more", "name", "said"),
    [
        ((), "yes", "--name yes: expected letters"),
        ((), "a b", "--name a b: expected letters"),
        (("--like", "lapto"), "mine", "--like lapto: no such device class. Did you mean laptop?"),
        (("--repeats", "0"), "mine", "--repeats 0: expected at least 1."),
        (("--down", "0"), "mine", "--down 0: expected a rate > 0"),
        (("--latency", "-1"), "mine", "--latency -1: expected a rate > 0, or seconds ≥ 0"),
        ((), "laptop", "--name laptop:"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_anything_is_measured(
    tmp_path, capsys, measured, more, name, said
):
    assert calibrated(tmp_path / "devices.yaml", *more, name=name) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert (measured, list(tmp_path.iterdir())) == ([], [])


def test_a_gpu_is_measured_only_where_there_is_one(tmp_path, capsys, measured, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert calibrated(tmp_path / "devices.yaml", "--gpu") == 1
    assert "torch finds no CUDA device" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    assert calibrated(tmp_path / "devices.yaml", "--gpu") == 0
    assert measured == [(5, "cuda")]
    assert "strata calibrate on a card" in (tmp_path / "devices.yaml").read_text(encoding="utf8")


def test_flops_of_a_repetition_are_divided_by_its_seconds(monkeypatch):
    # A clock that moves on by 0.5 s between two looks: warming up twice and each repetition take 0.5 s.
    looks = iter(range(1000))
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(looks) / 2)
    (mlp, cnn) = calibration.measure(3, "cpu")
    # An mlp of 784-200-10 on 32 samples: 2·32·inputs·outputs per product; forwards and for weights, and for the hidden
    # layer's values, but not for the inputs.
    first, second = 2 * 32 * 784 * 200, 2 * 32 * 200 * 10
    assert mlp.flops_per_step == 2 * first + 3 * second
    # 16 steps in 0.5 s: 8 steps are 0.25 s.
    assert mlp.flops_per_s == [8 * mlp.flops_per_step / 0.5] * 3
    assert (cnn.model, len(cnn.flops_per_s)) == ("cnn", 3)
