"""Windows of rounds: their populations, and arguments that are refused."""

import pytest

from strata.algorithms.controls.stragglers import StragglerControl
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.envs import opening
from strata.envs.opening import Windows
from strata.envs.plain import FederatedRounds
from strata.envs.stages import StagedRounds
from tests.helpers.rounds import EVERY, arguments


def test_windows_of_the_timing_fidelity_go_round_their_populations():
    windows = Windows(**arguments("timing", EVERY, populations=3))
    speeds = [tuple(p.flops_per_s for p in windows.next().rounds.world.profiles) for _ in range(6)]
    assert speeds[:3] == speeds[3:]
    assert len(set(speeds)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fidelity": "fast"}, "fidelity=fast: expected full or timing"),
        ({"rounds": 0}, "rounds=0, populations=1: expected at least 1 each"),
        ({"fidelity": "full", "populations": 2}, "populations=2: expected 1 with fidelity=full"),
        ({"method": "lg_fedavg", "overrides": []}, "lg_fedavg leaves no decisions to agents"),
        ({"overrides": ["method.size_agent=false", "method.intensity_agent=false"]}, "switched off"),
        ({"overrides": ["method.epoch=3"]}, "method.epoch: no such key.*Did you mean epochs"),
        (
            {"overrides": ["model=mclr"]},
            "model.name=mclr comes in one size only.*Choose cnn, mlp, cnn_series or transformer",
        ),
    ],
    ids=str,
)
def test_mistakes_are_refused_with_what_was_expected(changes, message):
    with pytest.raises(ConfigError, match=message):
        FederatedRounds(**{**arguments(), **changes})


OFF = ("method.size_agent=false", "method.intensity_agent=false")


@pytest.fixture
def lives(monkeypatch):
    """The federations that were opened and not closed since."""
    alive = []

    class Watched(Federation):
        def __init__(self, config):
            super().__init__(config)
            alive.append(self)

        def close(self):
            super().close()
            alive.remove(self)

    monkeypatch.setattr(opening, "Federation", Watched)
    return alive


def test_a_full_environment_opens_a_federation_and_closes_it(lives):
    environment = FederatedRounds(**arguments("full"))
    assert len(lives) == 1
    environment.close()
    assert lives == []


def test_a_method_without_decisions_is_refused_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(opening, "Federation", None)
    monkeypatch.setattr(opening, "build_world", None)
    for fidelity in ("full", "timing"):
        with pytest.raises(ConfigError, match="pfedme leaves no decisions to agents"):
            Windows(method="pfedme", fidelity=fidelity)


def test_an_environment_in_which_nobody_decides_leaves_no_federation_behind(lives):
    with pytest.raises(ConfigError, match="switched off"):
        FederatedRounds(**arguments("full", *OFF))
    assert lives == []


@pytest.mark.parametrize("environment", [FederatedRounds, lambda **arguments: StagedRounds(arguments)])
def test_a_control_that_breaks_leaves_no_federation_behind(lives, monkeypatch, environment):
    def broken(self):
        raise ZeroDivisionError

    monkeypatch.setattr(StragglerControl, "make_agents", broken)
    with pytest.raises(ZeroDivisionError):
        environment(**arguments("full"))
    assert lives == []
