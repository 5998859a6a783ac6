"""What RLlib's own training loop has learnt, as policies that decide in a run.

Example, of its stock PPO with its own networks, which see flat observations::

    words = {"method": "hapfl", "fidelity": "timing", "episodes": "restart", "observations": "flat"}
    agents = FederatedRoundsEnv(words).possible_agents
    config = PPOConfig().environment(FederatedRoundsEnv, env_config=words)
    config.multi_agent(policies=agents, policy_mapping_fn=lambda agent, *args, **kwargs: agent)
    algorithm = config.build_algo()
    algorithm.train()
    from_rllib(algorithm, "agents")  # strata run hapfl agents.checkpoint=agents agents.mode=freeze

The algorithm is taken while it lives, and its modules' weights are written as safetensors and JSON. RLlib's checkpoint
folders are not read, because reading them unpickles, and what is unpickled can run code; ``Algorithm.from_checkpoint``
restores one that can be taken. The policies act as RLlib's loop does without exploration, and do not learn on.
"""

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete, Space, flatten_space
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.rllib.utils.spaces.space_utils import unsquash_action

from strata.agents.families.learners import Specs
from strata.agents.networks import EquivariantActorCritic, MlpActorCritic
from strata.agents.store import require_fit
from strata.engine.determinism import single_thread, torch_scope
from strata.engine.errors import AgentCheckpointError, CheckpointError
from strata.engine.method.control import Actions, AgentId, AgentSpec, Observation
from strata.engine.method.situation import Situation
from strata.engine.state import checkpoint

KINDS: Mapping[str, type[RLModule]] = {
    "ppo": DefaultPPOTorchRLModule,
    "equivariant": EquivariantActorCritic,
    "mlp": MlpActorCritic,
}
"""Classes of modules that can be made again from their settings: RLlib's default for PPO, and Strata's networks."""
FROM = "trained by"
RLLIB = "RLlib's own loop"


def from_rllib(algorithm: Algorithm, folder: str | Path, method: str = "") -> Path:
    """Write what an algorithm of RLlib has learnt as agents for runs: ``agents.checkpoint=FOLDER agents.mode=freeze``.

    Args:
        algorithm: alive, of the new API stack, trained on :class:`~strata.envs.multi_agent.FederatedRoundsEnv`, with a
            module for each agent, of the agent's name.
        folder: where they are written; what lies there is replaced.
        method: whose decisions they make; empty: the method that the environment's ``env_config`` names.

    Returns:
        The folder.

    Raises:
        AgentCheckpointError: for modules that cannot be made again from their settings, or connectors of one's own.
        CheckpointError: when it cannot be written.
    """
    config = algorithm.config
    if config._env_to_module_connector or config._module_to_env_connector:
        raise AgentCheckpointError(
            "from_rllib: the algorithm has connectors of its own between environment and modules, which a run would "
            "not have. Expected RLlib's default ones."
        )
    modules = {agent: _module(algorithm, agent) for agent in config.policies}
    named = method or str(config.env_config.get("method", ""))
    made_for = {
        **_made_for({agent: (module.observation_space, module.action_space) for agent, module in modules.items()}),
        "method": "" if named.endswith((".yaml", ".yml")) else named,
    }
    tree = {agent: _described(module, bool(config.normalize_actions)) for agent, module in modules.items()}
    target = Path(folder).expanduser().resolve()
    checkpoint.write(target, tree, {FROM: RLLIB, "made_for": made_for})
    return target


def is_stock(source: Path) -> bool:
    """Whether a folder holds agents that :func:`from_rllib` wrote."""
    try:
        return checkpoint.header_of(source).get(FROM) == RLLIB
    except CheckpointError:
        return False


class StockPolicies:
    """Modules that RLlib trained, which act and do not learn."""

    def __init__(self, source: Path, specs: Specs, method: str) -> None:
        """Read the agents of a folder for a run.

        Args:
            source: the folder that :func:`from_rllib` wrote.
            specs: of the run's agents.
            method: the run's.

        Raises:
            AgentCheckpointError: when they are damaged, or were made for something else: another method, set of agents,
                space, or version of RLlib.
        """
        spaces = {agent: (spec.observation_space, spec.action_space) for agent, spec in specs.items()}
        ours = {**_made_for(spaces), "method": method}

        def check(header: Mapping[str, object]) -> None:
            self._header = {FROM: header[FROM], "made_for": header["made_for"]}
            require_fit(source, header.get("made_for"), ours)

        try:
            tree: Any = checkpoint.read(source, check)
            self._scaled = {agent: bool(saved["scaled"]) for agent, saved in tree.items()}
            self._modules = {agent: _built(specs[agent], saved) for agent, saved in tree.items()}
        except AgentCheckpointError:
            raise
        except (CheckpointError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise AgentCheckpointError(f"{source}: these agents cannot be read: {error}") from None

    def act(self, round: int, situation: Situation, chosen: Actions, seen: Mapping[AgentId, Observation]) -> Actions:
        """The modes of the modules' distributions, in the bounds of the action spaces."""
        with torch.inference_mode(), single_thread():
            return {agent: self._act(agent, observation) for agent, observation in seen.items()}

    def _act(self, agent: AgentId, observation: Observation) -> Any:
        module = self._modules[agent]
        batch = {Columns.OBS: torch.from_numpy(observation.reshape(1, *module.observation_space.shape))}
        inputs = module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
        mode = module.get_inference_action_dist_cls().from_logits(inputs).to_deterministic().sample()[0].numpy()
        space = module.action_space
        if not isinstance(space, Box):
            return mode
        action = mode.reshape(space.shape)
        return unsquash_action(action, space) if self._scaled[agent] else np.clip(action, space.low, space.high)

    def learn(self, round: int, rewards: Mapping[AgentId, float]) -> Mapping[str, float]:
        """Learn nothing: they stay as RLlib left them."""
        return {}

    def state(self) -> object:
        """All modules' weights and settings, as :func:`from_rllib` writes them."""
        return {agent: _described(module, self._scaled[agent]) for agent, module in self._modules.items()}

    def restore(self, state: Any) -> None:
        """Take the weights that :meth:`state` gave."""
        for agent, saved in state.items():
            self._modules[agent].load_state_dict(saved["weights"])

    def save(self, folder: Path) -> None:
        """Write the agents as they were read, for other runs.

        Raises:
            CheckpointError: when they cannot be written.
        """
        checkpoint.write(folder.resolve(), self.state(), self._header)


def _module(algorithm: Algorithm, agent: AgentId) -> RLModule:
    """The module of one agent, if a run can do with it what RLlib does."""
    if algorithm.config.policy_mapping_fn(agent, None) != agent:
        raise AgentCheckpointError(
            f"from_rllib: expected a module for each agent, of the agent's name; {agent} has another. Set "
            "policies=env.possible_agents and policy_mapping_fn=lambda agent, *args, **kwargs: agent."
        )
    module = algorithm.get_module(agent)
    kinds = {kind: name for name, kind in KINDS.items()}
    default = type(module) is not DefaultPPOTorchRLModule or type(module.catalog) is PPOCatalog
    if type(module) not in kinds or not default or module.is_stateful():
        known = ", ".join(kind.__name__ for kind in kinds)
        raise AgentCheckpointError(
            f"from_rllib: the module of {agent} is a {type(module).__name__}: expected one of {known}, without a "
            "catalog of its own or a memory, so that it can be made again from its settings."
        )
    return module


def _described(module: RLModule, scaled: bool) -> dict[str, object]:
    """A module as a tree; ``scaled``: actions between −1 and 1 are stretched to the bounds of their space."""
    settings = module.model_config
    plain = dict(settings or {}) if not dataclasses.is_dataclass(settings) else vars(settings)
    kind = next(name for name, kind in KINDS.items() if type(module) is kind)
    return {"kind": kind, "settings": plain, "scaled": scaled, "weights": dict(module.state_dict())}


def _built(spec: AgentSpec, saved: Mapping[str, Any]) -> RLModule:
    """A module made again, for the spaces of the run's agent, which are equal."""
    stock = saved["kind"] == "ppo"
    made = RLModuleSpec(
        module_class=KINDS[saved["kind"]],
        observation_space=flatten_space(spec.observation_space) if stock else spec.observation_space,
        action_space=spec.action_space,
        inference_only=stock,
        model_config=saved["settings"],
        catalog_class=PPOCatalog if stock else None,
    )
    with torch_scope(0):
        module = made.build()
    module.load_state_dict({name: saved["weights"][name] for name in module.state_dict()})  # not those of values
    return module.eval()


def _made_for(spaces: Mapping[AgentId, tuple[Space[Any], Space[Any]]]) -> dict[str, object]:
    return {
        "RLlib version": ".".join(version("ray").split(".")[:2]),
        "set of agents": sorted(spaces),
        "size of observations": {agent: int(np.prod(seen.shape or ())) for agent, (seen, _) in spaces.items()},
        "action space": {agent: _told(space) for agent, (_, space) in spaces.items()},
    }


def _told(space: Space[Any]) -> list[object]:
    """An action space as plain values."""
    if isinstance(space, MultiDiscrete):
        return ["choices", [int(n) for n in np.ravel(space.nvec)]]
    assert isinstance(space, Box)
    return ["numbers", list(space.shape), float(space.low.min()), float(space.high.max())]
