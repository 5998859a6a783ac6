"""From agents' specifications to RLlib learners: modules, their settings, and one learner per family."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from strata.agents.families.reinforce import ReinforceLearner, VirtualAgent
from strata.agents.families.relative import EVERYONE, Everyone, RelativeAgent, RelativeLearner
from strata.agents.families.vdn import DecomposedValue, DecompositionLearner
from strata.agents.networks import EquivariantActorCritic, MlpActorCritic
from strata.engine.config.agents import AgentsConfig
from strata.engine.method.control import AgentId, AgentSpec
from strata.engine.models.weighing import weighed

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
    config.framework("torch")
    config.multi_agent(policies=list(specs), policy_mapping_fn=own_module)
    rates = {agent: settings.lr.get(agent, spec.lr) for agent, spec in specs.items()}
    common = next(iter(rates.values()))
    config.training(lr=common)
    config.rl_module(
        rl_module_spec=_module_spec(family, settings, next(iter(specs.values()))),
        # RLlib copies the whole configuration, with all others' copies in it, for each module that differs: of a
        # hundred agents, none may.
        algorithm_config_overrides_per_module={
            agent: AlgorithmConfig.overrides(lr=lr) for agent, lr in rates.items() if lr != common
        },
    )
    config.env_runners(num_env_runners=0)
    config.learners(num_learners=0)
    return config


def build_learner(family: str, specs: Specs, settings: AgentsConfig) -> Learner:
    """A learner of one family of agents, with fresh modules.

    ``AlgorithmConfig.build_learner`` would derive the same specification of modules from the configuration, but copies
    the configuration for every agent, with all agents in it: half a minute for a thousand.
    """
    config = rllib_config(family, specs, settings)
    modules = {
        agent: replace(
            _module_spec(family, settings, spec),
            observation_space=spec.observation_space,
            action_space=spec.action_space,
        )
        for agent, spec in specs.items()
    }
    if family == "relative":
        modules[EVERYONE] = _shared_by(next(iter(specs.values())))
    learner: Learner = config.learner_class(config=config, module_spec=MultiRLModuleSpec(rl_module_specs=modules))
    with weighed(f"agents.hidden={settings.hidden}", "Lower it."):
        learner.build()
    return learner


def own_module(agent: AgentId, *args: object, **kwargs: object) -> str:
    """Every agent has a module of its own name."""
    return agent


def _module_spec(family: str, settings: AgentsConfig, spec: AgentSpec) -> RLModuleSpec:
    classes = {
        "ppo": MlpActorCritic if settings.network == "mlp" else EquivariantActorCritic,
        "reinforce": VirtualAgent,
        "relative": RelativeAgent,
        "vdn": DecomposedValue,
    }
    model_config = {"hidden": settings.hidden, "exploration": settings.exploration, "epsilon": settings.epsilon}
    return RLModuleSpec(module_class=classes[family], model_config={**model_config, "calls": spec.relative.calls})


def _shared_by(spec: AgentSpec) -> RLModuleSpec:
    """What agents of the family ``relative``, of which this is one, share."""
    return RLModuleSpec(
        module_class=Everyone,
        observation_space=spec.observation_space,
        action_space=spec.action_space,
        model_config={"lr": spec.lr * spec.relative.shared, "memory": spec.relative.memory},
    )


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
    """Settings of the learner of :mod:`strata.agents.families.reinforce`; RLlib asks a configuration for its parts."""

    def get_default_learner_class(self) -> type:
        """The class of the learner: REINFORCE."""
        return ReinforceLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that learns: a virtual agent."""
        return RLModuleSpec(module_class=VirtualAgent)


class RelativeConfig(AlgorithmConfig):
    """Settings of :class:`~strata.agents.families.relative.RelativeLearner`."""

    def get_default_learner_class(self) -> type:
        """The class of the learner: REINFORCE against an agent's own past."""
        return RelativeLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that learns: a virtual agent that remembers what it was paid."""
        return RLModuleSpec(module_class=RelativeAgent)


class DecompositionConfig(AlgorithmConfig):
    """Settings of :class:`~strata.agents.families.vdn.DecompositionLearner`."""

    def get_default_learner_class(self) -> type:
        """The class of the learner: value decomposition."""
        return DecompositionLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that learns: decomposed values."""
        return RLModuleSpec(module_class=DecomposedValue)


_CONFIGS: Mapping[str, Callable[[AgentsConfig], AlgorithmConfig]] = {
    "ppo": _ppo,
    "reinforce": lambda settings: ReinforceConfig().training(gamma=0.0),
    "relative": lambda settings: RelativeConfig().training(gamma=0.0),
    "vdn": lambda settings: DecompositionConfig().training(gamma=0.0),
}
