"""The W&B sweep of the README: the command that W&B's agent makes of it is one of ours."""

import re

import yaml

from strata.cluster.cli import _parse, _parser
from strata.cluster.sinks.metrics import metrics_of
from strata.engine.config.load import load_config
from tests.helpers.small import played
from tests.policy.source import ROOT


def test_what_an_agent_of_wandb_types_is_a_run_that_logs_the_metric():
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    (page,) = re.findall(r"```yaml\n(method: bayes.+?)```", (ROOT / "README.md").read_text(encoding="utf8"), re.DOTALL)
    sweep = yaml.safe_load(page)
    chosen = {"method.mu": {"value": 0.03}, "method.lr": {"value": 0.05}}
    assert sweep["parameters"].keys() == chosen.keys()
    made = create_sweep_command_args({"args": chosen})
    words = [word for part in create_sweep_command(sweep["command"]) for word in made.get(part.strip("${}"), [part])]
    parsed = _parse(_parser(), words[1:])
    config = load_config(parsed.source, parsed.overrides)
    assert (config.algorithm, config.rounds, config.method.mu, config.method.lr) == ("fedprox", 50, 0.03, 0.05)
    _, records, _ = played("fedprox", "rounds=1")
    assert sweep["metric"]["name"] in metrics_of(records[-1])
