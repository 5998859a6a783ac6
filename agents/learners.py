"""From agents' specifications to RLlib learners: modules, their settings, and one learner per family."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from agents.actor_critic import EquivariantActorCritic, MlpActorCritic
from agents.decomposition import DecomposedValue, DecompositionLearner
from agents.virtual import ReinforceLearner, VirtualAgent
from engine.agents_config import AgentsConfig
from engine.control import AgentId, AgentSpec

Specs = Mapping[AgentId, AgentSpec]

# RLlib warns of what RLlib itself does (it builds its modules by a deprecated way); a user cannot mend it.
logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)
logging.getLogger("ray.rllib.core.rl_module.rl_module").setLevel(logging.ERROR)
GRAD_CLIP = 1.0  # of PPO's gradient, by its global norm


def rllib_config(family: str, specs: Specs, settings: AgentsConfig) -> AlgorithmConfig:
    """RLlib's configuration of one family of agents, each with a module of its own.

    With an environment added (``.environment(FederatedRoundsEnv, env_config=…)``) that of ``ppo`` also drives RLlib's
    own training loop.
    """
    config = _CONFIGS[family](settings)
    modules = {
        agent: RLModuleSpec(
            module_class=_module_class(family, settings),
            observation_space=spec.observation_space,
            action_space=spec.action_space,
            model_config={
                "hidden": settings.hidden,
                "exploration": settings.exploration,
                "epsilon": settings.epsilon,
            },
        )
        for agent, spec in specs.items()
    }
    config.framework("torch")
    config.multi_agent(
        policies={agent: (None, spec.observation_space, spec.action_space, {}) for agent, spec in specs.items()},
        policy_mapping_fn=own_module,
    )
    rates = {agent: settings.lr.get(agent, spec.lr) for agent, spec in specs.items()}
    common = next(iter(rates.values()))
    config.training(lr=common)
    config.rl_module(
        rl_module_spec=MultiRLModuleSpec(rl_module_specs=modules),
        # RLlib copies the whole configuration, with all others' copies in it, for each module that differs: of a
        # hundred agents, none may.
        algorithm_config_overrides_per_module={
            agent: AlgorithmConfig.overrides(lr=lr) for agent, lr in rates.items() if lr != common
        },
    )
    config.env_runners(num_env_runners=0)
    config.learners(num_learners=0)
    return config


def own_module(agent: AgentId, *args: Any, **kwargs: Any) -> str:
    """Every agent has a module of its own name."""
    return agent


def _module_class(family: str, settings: AgentsConfig) -> type:
    if family == "reinforce":
        return VirtualAgent
    if family == "vdn":
        return DecomposedValue
    return MlpActorCritic if settings.network == "mlp" else EquivariantActorCritic


def _ppo(settings: AgentsConfig) -> AlgorithmConfig:
    return PPOConfig().training(
        gamma=settings.gamma,
        lambda_=1.0,
        clip_param=settings.clip,
        entropy_coeff=settings.entropy,
        use_kl_loss=False,
        vf_loss_coeff=0.5,
        grad_clip=GRAD_CLIP,
        num_epochs=settings.epochs,
        minibatch_size=None,
    )


class ReinforceConfig(AlgorithmConfig):
    """Settings of :class:`~agents.virtual.ReinforceLearner`; RLlib asks a configuration for its parts."""

    def get_default_learner_class(self) -> type:
        """What learns."""
        return ReinforceLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """What is learnt."""
        return RLModuleSpec(module_class=VirtualAgent)


class DecompositionConfig(AlgorithmConfig):
    """Settings of :class:`~agents.decomposition.DecompositionLearner`."""

    def get_default_learner_class(self) -> type:
        """What learns."""
        return DecompositionLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """What is learnt."""
        return RLModuleSpec(module_class=DecomposedValue)


_CONFIGS: Mapping[str, Callable[[AgentsConfig], AlgorithmConfig]] = {
    "ppo": _ppo,
    "reinforce": lambda settings: ReinforceConfig().training(gamma=0.0),
    "vdn": lambda settings: DecompositionConfig().training(gamma=0.0),
}
