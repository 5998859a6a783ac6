"""What the networks promise: order and number of clients do not matter, padding changes nothing."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, MultiDiscrete
from ray.rllib.core.columns import Columns

from strata.agents.families.vdn import DecomposedValue
from strata.agents.networks import EquivariantActorCritic, MlpActorCritic
from strata.agents.rllib_policies import LearntPolicies
from strata.agents.rows import per_client
from strata.engine.method.control import AgentSpec
from strata.engine.method.features import pad_rows
from tests.helpers.toys import ARMS, arms, learn, mean_pay, rows, settings

ACTIONS = {"choices": lambda k: MultiDiscrete([3, 2] * k), "numbers": lambda k: Box(-3.0, 3.0, (k,), np.float32)}
KINDS = [EquivariantActorCritic, MlpActorCritic]


def module_of(kind, actions, k, seed=0):
    """A network whose outputs are not the zeros of a fresh one."""
    torch.manual_seed(seed)
    module = kind(
        observation_space=rows(k),
        action_space=ACTIONS[actions](k),
        model_config={"hidden": 8, "exploration": 0.5, "epsilon": 0.2},
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def observations(n, k, seed=0):
    features = np.random.default_rng(seed).normal(size=(ARMS, n))
    return torch.from_numpy(pad_rows(list(features), k))[None]


def outputs(module, observed):
    with torch.no_grad():
        return module.forward_train({Columns.OBS: observed})[Columns.ACTION_DIST_INPUTS]


def log_probability(module, observed, action):
    return module.get_train_action_dist_cls().from_logits(outputs(module, observed)).logp(action)


@pytest.fixture(autouse=True)
def own_generator():
    """Seeding here must not reach other tests."""
    before = torch.get_rng_state()
    yield
    torch.set_rng_state(before)


@pytest.mark.parametrize("actions", ACTIONS)
def test_permuting_clients_permutes_what_is_told_to_them_and_leaves_the_value(actions):
    module, observed, order = module_of(EquivariantActorCritic, actions, 5), observations(5, 5), [3, 0, 4, 1, 2]
    parts = 2 if actions == "numbers" else 1  # means and logarithms of standard deviations, one after the other
    before = outputs(module, observed).reshape(parts, 5, -1)
    after = outputs(module, observed[:, order]).reshape(parts, 5, -1)
    torch.testing.assert_close(after, before[:, order])
    assert (before[0, 0] != before[0, 1]).any(), "outputs that are all equal prove nothing"
    with torch.no_grad():
        values = [module.compute_values({Columns.OBS: o}) for o in (observed, observed[:, order])]
    torch.testing.assert_close(*values)


def test_utilities_of_a_client_depend_on_nobody_else():
    module, observed = module_of(DecomposedValue, "choices", 4), observations(4, 4)
    changed = observed.clone()
    changed[0, 3, 1:] += 1
    before, after = (outputs(module, o).reshape(4, 5) for o in (observed, changed))
    torch.testing.assert_close(before[:3], after[:3])
    assert (before[3] != after[3]).any()


@pytest.mark.parametrize("actions", ACTIONS)
def test_padding_changes_nothing_of_who_is_there(actions):
    small, large = (module_of(EquivariantActorCritic, actions, k) for k in (3, 7))
    large.load_state_dict(small.state_dict())
    parts = 2 if actions == "numbers" else 1
    expected = outputs(small, observations(3, 3)).reshape(parts, 3, -1)
    found = outputs(large, observations(3, 7)).reshape(parts, 7, -1)
    torch.testing.assert_close(found[:, :3], expected)
    assert (found[:, 3:] == 0).all()  # logits 0; or mean 0, logarithm of the standard deviation 0
    values = [m.compute_values({Columns.OBS: observations(3, k)}) for m, k in ((small, 3), (large, 7))]
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_in_padding_rows_cancels_in_the_ratio(kind, actions):
    old, new = module_of(kind, actions, 4), module_of(kind, actions, 4, seed=1)
    observed = observations(2, 4)
    one, other = np.random.default_rng(0), np.random.default_rng(1)
    first = torch.from_numpy(one.normal(size=(1, 4)) if actions == "numbers" else one.integers(0, 2, (1, 8)))
    second = first.clone()
    padding = slice(2, 4) if actions == "numbers" else slice(4, 8)
    second[:, padding] = torch.from_numpy(
        other.normal(size=(1, 2)) if actions == "numbers" else other.integers(0, 2, (1, 4))
    )
    assert (first != second).any()
    ratios = [log_probability(new, observed, a) - log_probability(old, observed, a) for a in (first, second)]
    torch.testing.assert_close(*ratios)
    assert abs(float(ratios[0])) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_policy_prefers_nothing(kind):
    module = kind(observation_space=rows(4), action_space=MultiDiscrete([3] * 4), model_config={"hidden": 8})
    assert (outputs(module, observations(4, 4)) == 0).all()


def test_continuous_actions_begin_with_the_configured_spread():
    module = EquivariantActorCritic(
        observation_space=rows(3),
        action_space=ACTIONS["numbers"](3),
        model_config={"hidden": 8, "exploration": 0.35},
    )
    mean, log_std = outputs(module, observations(2, 3)).reshape(2, 3)
    assert mean.tolist() == [0, 0, 0]
    np.testing.assert_allclose(log_std.exp(), [0.35, 0.35, 1.0], rtol=1e-6)


def test_agents_of_ten_clients_serve_fifty():
    ten = learn({"arm": arms(10)}, 100, k=10)
    fifty = LearntPolicies({"arm": arms(50)}, settings(), seed=5)
    fifty.restore_learners(ten.state()["learners"])
    assert mean_pay({"arm": arms(50)}, fifty, k=50)["arm"] > 0.95


def test_spaces_must_repeat_for_every_client():
    pattern = per_client(rows(4), MultiDiscrete([3, 2] * 4))
    assert (pattern.clients, pattern.features, pattern.choices, pattern.outputs) == (4, 1 + ARMS, (3, 2), 5)
    assert per_client(rows(4), Box(0, 1, (8,))).outputs == 2
    with pytest.raises(ValueError, match="the same choices for each of 4 clients"):
        per_client(rows(4), MultiDiscrete([3, 2, 3, 3]))
    with pytest.raises(ValueError, match="a Box of shape"):
        per_client(Dict({"rows": rows(4)}), MultiDiscrete([3] * 4))
    with pytest.raises(ValueError, match="a multiple of 4"):
        per_client(rows(4), Box(0, 1, (5,)))


def test_value_decomposition_refuses_continuous_actions():
    with pytest.raises(ValueError, match="needs discrete actions"):
        LearntPolicies({"n": AgentSpec(rows(3), ACTIONS["numbers"](3), "vdn")}, settings(), seed=0)
