"""What every control has: the rules, of which the uniform one is the method without agents."""

import numpy as np
import pytest

from strata.agents.policies import RulePolicies
from tests.helpers.decisions import decided_run, plain_run, pulls, selection, situation
from tests.helpers.small import small


def test_uniform_is_the_methods_default_and_unknown_rules_are_refused():
    control, seen = selection(), situation()
    kept = control.suggest("uniform", "selection", seen, {}, None)
    chosen = {"selection": kept, "epochs": control.suggest("uniform", "epochs", seen, {"selection": kept}, None)}
    assert control.decide(seen, chosen).clients == {2: {"epochs": 5}, 3: {"epochs": 5}, 5: {"epochs": 5}}
    draws = np.random.default_rng(0)
    assert control.agents["selection"].action_space.contains(control.suggest("random", "selection", seen, {}, draws))
    for asked, agent in ((control, "selection"), (pulls(), "pulls")):
        with pytest.raises(ValueError, match="clever: no such rule; expected one of uniform, random"):
            asked.suggest("clever", agent, seen, {}, draws)


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "permfl"])
def test_uniform_decisions_give_the_models_of_a_run_without_agents(method):
    extra = () if method == "permfl" else ("method.epochs=2", "clients.participation=0.6", "delays.dropout=0.2")
    config = small(method, *extra)
    got, reports = decided_run(config, lambda control: RulePolicies("uniform", control, 0))
    assert got == plain_run(config)
    assert len(reports) == 3
    random, _ = decided_run(config, lambda control: RulePolicies("random", control, 0))
    assert random != got, "the comparison would hold for decisions that change nothing"
