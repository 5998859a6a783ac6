"""Windows of rounds: their populations, and arguments that are refused."""

import pytest

from strata.engine.errors import ConfigError
from strata.envs.opening import Windows
from strata.envs.plain import FederatedRounds
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
