"""What RLlib's own PPO has learnt, brought back: its decisions in a run are the module's own."""

import json

import numpy as np
import pytest
import torch

from strata.agents import from_rllib
from strata.agents.families.learners import rllib_config
from strata.agents.stock import StockPolicies, is_stock
from strata.cluster.run.session import Session
from strata.engine.config.agents import AgentsConfig
from strata.engine.config.load import load_config
from strata.engine.errors import AgentCheckpointError
from strata.engine.runtime import local_ray
from strata.engine.state import checkpoint
from strata.engine.tree import fingerprint
from strata.envs.multi_agent import FederatedRoundsEnv
from strata.envs.opening import Windows
from tests.helpers.rounds import HAPFL, arguments

FROZEN = ("agents.policy=rllib", "agents.mode=freeze", "runtime=inprocess", "tracking.wandb=disabled")


def own(agent, *args, **kwargs):
    return agent


def built(**changes):
    """RLlib's PPO with its own networks on HAPFL's timed rounds, as users configure it; not trained yet."""
    from ray.rllib.algorithms.ppo import PPOConfig

    words = {**arguments("timing", rounds=5, episodes="restart"), "observations": "flat", **changes}
    agents = FederatedRoundsEnv(words).possible_agents
    config = (
        PPOConfig()
        .environment(FederatedRoundsEnv, env_config=words)
        .multi_agent(policies=agents, policy_mapping_fn=own)
        .env_runners(num_env_runners=0, rollout_fragment_length=10)
        .training(train_batch_size_per_learner=20, minibatch_size=10, num_epochs=1)
    )
    return config.build_algo()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An algorithm that was trained for two iterations, and what was written of it."""
    import ray

    local_ray.start(1, 0)
    algorithm = built()
    before = {agent: fingerprint(dict(algorithm.get_module(agent).state_dict())) for agent in algorithm.config.policies}
    for _ in range(2):
        algorithm.train()
    after = {agent: fingerprint(dict(algorithm.get_module(agent).state_dict())) for agent in before}
    assert all(before[agent] != after[agent] for agent in before)
    yield algorithm, from_rllib(algorithm, tmp_path_factory.mktemp("rllib") / "agents")
    algorithm.stop()
    ray.shutdown()


def config(folder, *more):
    return load_config("hapfl", [*HAPFL, *FROZEN, f"agents.checkpoint={folder}", "rounds=4", *more])


def by_rllib(algorithm, agent, observation):
    """The action that RLlib's own connectors make of the module's output, without exploration."""
    from ray.rllib.core.columns import Columns
    from ray.rllib.utils.spaces.space_utils import unsquash_action

    module = algorithm.get_module(agent)
    with torch.no_grad():
        seen = torch.from_numpy(observation.reshape(1, *module.observation_space.shape))
        out = module.forward_inference({Columns.OBS: seen})
    kind = module.get_inference_action_dist_cls()
    action = kind.from_logits(out[Columns.ACTION_DIST_INPUTS]).to_deterministic().sample()[0].numpy()
    return unsquash_action(action, module.action_space)


@pytest.fixture
def decided(monkeypatch):
    """All that such policies decide: agent, what it saw, and its action."""
    seen = []
    act = StockPolicies.act

    def noted(self, round, situation, chosen, observations):
        made = act(self, round, situation, chosen, observations)
        seen.extend((agent, observations[agent], action) for agent, action in made.items())
        return made

    monkeypatch.setattr(StockPolicies, "act", noted)
    return seen


@pytest.mark.slow
def test_its_decisions_in_a_run_are_the_modules_own(trained, decided):
    algorithm, folder = trained
    with Session(config(folder)) as session:
        records = [session.run_round() for _ in range(4)]
    assert [agent for agent, *_ in decided] == ["size", "intensity"] * 4
    for agent, observation, action in decided:
        np.testing.assert_array_equal(action, by_rllib(algorithm, agent, observation))
    assert len({action.tobytes() for agent, _, action in decided if agent == "intensity"}) > 1
    assert all("agents/intensity/reward" in record.metrics for record in records)


@pytest.mark.slow
# RLlib registers one name for the environments of all its algorithms in a process.
@pytest.mark.filterwarnings("ignore:.*Overriding environment rllib-multi-agent-env-v0:UserWarning")
@pytest.mark.parametrize("network", ["equivariant", "mlp"])
def test_stratas_own_networks_come_back_as_well(trained, decided, tmp_path, network):
    words = arguments("timing", rounds=5)
    specs = Windows(**words).control.agents
    made = rllib_config("ppo", specs, AgentsConfig(policy="rllib", network=network))
    algorithm = made.environment(FederatedRoundsEnv, env_config=words).build_algo()
    try:
        for agent in specs:  # fresh ones prefer nothing
            with torch.no_grad():
                for value in algorithm.get_module(agent).parameters():
                    value.normal_(generator=torch.Generator().manual_seed(1))
        with Session(config(from_rllib(algorithm, tmp_path / "agents"))) as session:
            session.run_round()
        for agent, observation, action in decided:
            np.testing.assert_array_equal(action, by_rllib(algorithm, agent, observation))
    finally:
        algorithm.stop()


@pytest.mark.slow
def test_a_run_with_them_goes_on_from_a_checkpoint_to_the_bit(trained, tmp_path):
    _, folder = trained
    with Session(config(folder)) as session:
        for _ in range(2):
            session.run_round()
        saved = session.save(tmp_path / "checkpoints")
        session.save_agents(tmp_path / "agents")
        for _ in range(2):
            session.run_round()
        expected = session.fingerprint()
    with Session(config(folder), fresh=False) as session:
        session.restore(saved)
        for _ in range(2):
            session.run_round()
        assert session.fingerprint() == expected
    assert is_stock(tmp_path / "agents")  # saved with the run, for other runs
    with Session(config(tmp_path / "agents")) as session:
        for _ in range(4):
            session.run_round()
        assert session.fingerprint() == expected
    with (
        Session(config(tmp_path / "nowhere"), fresh=False) as session,
        pytest.raises(AgentCheckpointError, match=r"expected them where agents\.checkpoint says"),
    ):
        session.restore(saved)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agents.mode=train"], r"only act in a run\. Expected agents.mode=freeze"),
        (["agents.pretrain_rounds=5"], "agents.pretrain_rounds=0, got freeze and 5"),
        (
            ["clients.participation=0.75"],
            "made for another size of observations: size 12, intensity 36 there, size 18, intensity 54 in",
        ),
        (["method.pool=[0.5,1]", "method.default_size=0"], "made for another size of observations"),
        (["agents.layout=allocation+aggregation"], "made for another set of agents"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(trained, words, message):
    with pytest.raises(AgentCheckpointError, match=message):
        Session(config(trained[1], *words))


@pytest.mark.slow
def test_agents_of_another_method_are_refused(trained, tmp_path):
    algorithm, folder = trained
    other = from_rllib(algorithm, tmp_path / "other", method="fedddrl")
    with pytest.raises(AgentCheckpointError, match="made for another method: fedddrl there, hapfl in this run"):
        Session(config(other))
    state = json.loads((folder / checkpoint.STATE).read_text())
    state["made_for"]["RLlib version"] = "1.0"
    (other / checkpoint.STATE).write_text(json.dumps(state))
    with pytest.raises(AgentCheckpointError, match=r"made for another RLlib version: 1\.0 there"):
        Session(config(other))


@pytest.mark.slow
def test_what_cannot_be_made_again_is_refused_when_it_is_taken(trained, tmp_path, monkeypatch):
    algorithm, _ = trained
    changed = algorithm.config.copy(copy_frozen=False)
    changed.policy_mapping_fn = lambda agent, *args, **kwargs: "size"
    monkeypatch.setattr(algorithm, "config", changed)
    with pytest.raises(AgentCheckpointError, match="expected a module for each agent, of the agent's name; intensity"):
        from_rllib(algorithm, tmp_path)
    changed.policy_mapping_fn, changed._env_to_module_connector = own, lambda env: None
    with pytest.raises(AgentCheckpointError, match="has connectors of its own"):
        from_rllib(algorithm, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(algorithm, "get_module", lambda agent: torch.nn.Linear(1, 1))
    with pytest.raises(AgentCheckpointError, match="is a Linear: expected one of DefaultPPOTorchRLModule"):
        from_rllib(algorithm, tmp_path)
