"""The pictures of a comparison."""

import numpy as np
from PIL import Image

from strata.cluster.report.panels import COLOURS
from tests.helpers.comparisons import LABELS, PLOTS, command, copied, page_of


def test_pictures_open_and_show_a_line_of_every_method(done):
    folder, _ = done
    assert sorted(path.name for path in (folder / "report").glob("*.png")) == PLOTS
    for name in PLOTS:
        with Image.open(folder / "report" / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[1] >= 1200
        # Below the legend, which would show the colours of an empty plot as well.
        drawn = pixels[int(0.13 * len(pixels)) :]
        for colour in COLOURS[: len(LABELS)]:
            rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
            assert (abs(drawn.astype(int) - rgb).max(axis=-1) < 12).sum() > 100, f"{name} has no line in {colour}"


def test_rewards_of_agents_are_drawn_where_there_are_any(done, tmp_path):
    folder, _ = done
    (run,) = (folder / "runs").glob("fedprox*seed0")
    (other,) = (folder / "runs").glob("permfl*seed0")

    def reward(config, rounds):
        for number, one in enumerate(rounds):
            one["metrics"] = {"agents/intensity/reward": None if number == 1 else 0.5, "agents/intensity/loss": 1.0}

    rewarded = copied(run, tmp_path / "rewarded", reward)
    assert command("--report", other, rewarded, "--output", tmp_path / "out")[0] == 0
    with Image.open(tmp_path / "out" / "agents-reward.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    second = np.array([0xD5, 0x5E, 0x00])
    assert (abs(pixels[int(0.13 * len(pixels)) :] - second).max(axis=-1) < 12).sum() > 100
    assert "Rewards of the agents" in page_of(tmp_path / "out").text
