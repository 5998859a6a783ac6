"""Settings of agents that do not fit each other."""

import pytest

from strata.engine.config.agents import AgentsConfig
from strata.engine.errors import ConfigError
from strata.engine.options import check

LEARNT = {"policy": "rllib"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**LEARNT, "mode": "freeze"}, r"agents\.mode=freeze: there is nothing learnt to freeze"),
        ({"policy": "greedy", "checkpoint": "there"}, r"agents\.checkpoint: only learnt agents have one"),
        ({"checkpoint": "there"}, r"agents\.checkpoint: only learnt agents have one; set agents\.policy=rllib"),
        ({**LEARNT, "lr": {"size": 0.0}}, r"agents\.lr\.size=0 is out of range: expected > 0"),
        ({**LEARNT, "lr": {"a": 0.1, "b": -1.0}}, r"agents\.lr\.b=-1 is out of range"),
        ({**LEARNT, "lr": {"a": float("nan")}}, r"agents\.lr\.a=nan is out of range"),
        ({"gamma": 1.0}, r"agents\.gamma=1 is out of range: expected ≥ 0 and < 1"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check(AgentsConfig(**settings), "agents.")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mode": "freeze"},  # nobody learns: it means nothing
        {**LEARNT, "mode": "freeze", "checkpoint": "there"},
        {**LEARNT, "mode": "freeze", "pretrain_rounds": 1},
        {**LEARNT, "checkpoint": "there", "lr": {"size": 1e-9}},
    ],
    ids=str,
)
def test_settings_that_fit_are_taken(settings):
    check(AgentsConfig(**settings), "agents.")
