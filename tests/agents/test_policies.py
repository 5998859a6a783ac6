"""A method's own rules as policies."""

from strata.agents.policies import RulePolicies
from tests.helpers.toys import arms, turns


def test_rules_draw_anew_for_every_agent_and_round_and_repeat_by_seed():
    control = turns({"arm": arms(), "other": arms()}).control

    def drawn(seed, round):
        policies = RulePolicies("random", control, seed)
        seen = dict.fromkeys(control.agents)
        return {agent: action.tolist() for agent, action in policies.act(round, None, {}, seen).items()}

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1)["arm"] != drawn(0, 1)["other"]
    assert drawn(0, 1) != drawn(0, 2) != drawn(1, 2)
    policies = RulePolicies("random", control, 0)
    assert policies.learn(1, {"arm": 1.0}) == {}
    assert policies.state() is None
