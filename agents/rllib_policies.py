"""Learnt policies: RLlib modules and learners that decide, are paid, and learn."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from gymnasium.spaces import Box
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import Learner

from strata.agents.episodes import Step, Taken, Value, episode_of
from strata.agents.families.learners import Specs, build_learner
from strata.agents.families.relative import EVERYONE
from strata.agents.trees import from_tree, to_tree
from strata.engine.config.agents import AgentsConfig
from strata.engine.determinism import single_thread, torch_scope
from strata.engine.errors import AgentCheckpointError, ConfigError
from strata.engine.method.control import AGENTS, ENTROPY, Actions, AgentId, Observation, curve_of
from strata.engine.method.situation import Situation
from strata.engine.seeding import derive
from strata.engine.suggest import closest

VDN_EPOCHS = 8  # passes over the replayed rounds per update
UPDATE = "num_env_steps_sampled_lifetime"


@dataclass
class Round:
    """What happened in a round so far: one step per stage, and what came of it."""

    steps: list[Step] = field(default_factory=list)
    rewards: Mapping[AgentId, float] = field(default_factory=dict)


class State(TypedDict):
    """What a checkpoint keeps: learners by family and rounds, as trees."""

    learners: dict[str, object]
    rounds: list[dict[str, object]]
    fresh: int
    decisions: int
    unpaid: NotRequired[object]


class LearntPolicies:
    """RLlib modules and learners, one learner for each family of agents.

    Acting samples from the modules' distributions in rounds that are learnt from: while ``learning``, and up to round
    ``learn_rounds``, unless that is 0. In others it takes their modes. Every
    ``rounds_per_update`` rounds the learners are given the rounds since the last update as one RLlib episode.
    """

    def __init__(self, specs: Specs, settings: AgentsConfig, seed: int) -> None:
        """Build fresh modules; ``seed``: of the run, from which weights and actions derive.

        Raises:
            ConfigError: when the settings name an agent that there is not.
        """
        for agent in settings.lr:
            if agent not in specs:
                raise ConfigError(
                    f"agents.lr.{agent}: no such agent.{closest(agent, list(specs))} Expected one of "
                    f"{', '.join(specs)}."
                )
        self._specs, self._settings, self._seed = specs, settings, seed
        families: list[str] = sorted({spec.learner for spec in specs.values()})
        self._members: dict[str, Specs] = {
            family: {agent: spec for agent, spec in specs.items() if spec.learner == family} for family in families
        }
        self._learners: dict[str, Learner] = {}
        for family, members in self._members.items():
            with torch_scope(derive(seed, "agents", family)), single_thread():
                self._learners[family] = build_learner(family, members, settings)
        # Virtual agents learn from each round by itself; value decomposition also from rounds long past.
        self._rounds_per_update = 1 if any(spec.is_virtual for spec in specs.values()) else settings.rounds_per_update
        self._kept = settings.replay if "vdn" in families else 0
        self._rounds: list[Round] = [Round()]
        self._fresh = 0
        self._decisions = 0  # stages decided so far, from which exploration derives
        self.learning, self.learn_rounds = True, 0
        # Where servers do not wait, what a virtual agent did is paid in a later round. None: all is paid at once.
        self.unpaid: Step | None = None

    def act(self, round: int, situation: Situation, chosen: Actions, seen: Mapping[AgentId, Observation]) -> Actions:
        """Sample (or, frozen, choose) the actions of one stage's agents."""
        step: Step = {}
        learns = self._learns(round)
        with torch.inference_mode(), single_thread():
            for agent, observation in seen.items():
                with torch_scope(derive(self._seed, "agents", "act", agent, self._decisions)):
                    step[agent] = self._act(agent, observation, learns)
        self._decisions += 1
        if learns:
            self._rounds[-1].steps.append(step)
        return {agent: self._within(agent, taken[Columns.ACTIONS]) for agent, taken in step.items()}

    def _learns(self, round: int) -> bool:
        """Whether a round is learnt from."""
        return self.learning and (not self.learn_rounds or round <= self.learn_rounds)

    def _act(self, agent: AgentId, observation: Observation, learns: bool) -> Taken:
        module = self._learners[self._specs[agent].learner].module[agent]
        batch = {Columns.OBS: torch.from_numpy(observation)[None]}
        if learns:
            inputs = module.forward_exploration(batch)[Columns.ACTION_DIST_INPUTS]
            actions = module.get_exploration_action_dist_cls().from_logits(inputs)
        else:
            inputs = module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
            actions = module.get_inference_action_dist_cls().from_logits(inputs).to_deterministic()
        sample = actions.sample()
        logp = actions.logp(sample)[0].numpy() if learns else np.float32(0)
        return {
            Columns.OBS: observation,
            Columns.ACTIONS: sample[0].numpy(),
            Columns.ACTION_DIST_INPUTS: inputs[0].numpy(),
            Columns.ACTION_LOGP: logp,
        }

    def _within(self, agent: AgentId, action: Value) -> Value:
        """Continuous actions come from an unbounded distribution; what is learnt from is the unclipped one."""
        space = self._specs[agent].action_space
        if isinstance(space, Box):
            return np.clip(action, space.low.reshape(action.shape), space.high.reshape(action.shape)).reshape(
                space.shape
            )
        return action

    def learn(self, round: int, rewards: Mapping[AgentId, float]) -> Mapping[str, float]:
        """Keep the round; update if its turn has come. Who was not paid has nothing to learn from."""
        lived, learns = self._rounds[-1], self._learns(round)
        if self.unpaid is not None and learns:
            lived.steps = self._with_unpaid(self.unpaid, lived.steps, rewards)
        paid = [{agent: taken for agent, taken in step.items() if agent in rewards} for step in lived.steps]
        lived.steps, lived.rewards = [step for step in paid if step], rewards
        if not learns or not lived.steps:
            return {}
        self._fresh += 1
        metrics = self._entropies(lived)
        if self._fresh >= self._rounds_per_update:
            for family, learner in self._learners.items():
                metrics |= self._update(family, learner, round)
            self._rounds, self._fresh = self._rounds[-self._kept :] if self._kept else [], 0
        self._rounds.append(Round())
        return metrics

    def _with_unpaid(self, unpaid: Step, steps: list[Step], rewards: Mapping[AgentId, float]) -> list[Step]:
        """The stages of a round with what was done in earlier ones and is paid now; notes what is not paid yet."""
        for step in steps:
            unpaid |= {agent: taken for agent, taken in step.items() if self._specs[agent].is_virtual}
        acted = {agent for step in steps for agent in step}
        earlier = {agent: unpaid[agent] for agent in rewards if agent in unpaid and agent not in acted}
        for agent in [agent for agent in rewards if agent in unpaid]:
            del unpaid[agent]
        return [*steps, earlier] if earlier else steps

    def _entropies(self, lived: Round) -> dict[str, float]:
        """Of the policies of virtual agents, in nats: of each that acted, and the mean."""
        entropies = {}
        for agent, taken in ((agent, taken) for step in lived.steps for agent, taken in step.items()):
            spec = self._specs[agent]
            if spec.is_virtual:
                kind = self._learners[spec.learner].module[agent].get_train_action_dist_cls()
                logits = torch.from_numpy(taken[Columns.ACTION_DIST_INPUTS])[None]
                entropies[curve_of(agent, ENTROPY)] = float(kind.from_logits(logits).entropy()[0])
        return {**entropies, f"{AGENTS}{ENTROPY}": float(np.mean(list(entropies.values())))} if entropies else {}

    def _update(self, family: str, learner: Learner, round: int) -> dict[str, float]:
        # Value decomposition replays what it kept; the others learn from what their present policy did.
        rounds = self._rounds if family == "vdn" else self._rounds[-self._fresh :]
        episode = episode_of(rounds, self._members[family])
        if episode is None:
            return {}
        epochs = {"ppo": self._settings.epochs, "vdn": VDN_EPOCHS}.get(family, 1)
        # Every step of a pass sees all rounds. RLlib would cut the batch by environment steps instead, of which a round
        # has one per stage. PPO's connector adds one row, masked, to each agent's.
        rows = max(len(own) for own in episode.agent_episodes.values()) + (family == "ppo")
        with torch_scope(derive(self._seed, "agents", "learn", family, round)), single_thread():
            results = learner.update(
                episodes=[episode], timesteps={UPDATE: round}, num_epochs=epochs, minibatch_size=rows
            )
        return _curves(results, self._members[family])

    def state(self) -> State:
        """Modules and optimisers of all learners, and the rounds that were not learnt from yet."""
        learners = {}
        for family, learner in self._learners.items():
            saved = learner.get_state(components=["rl_module", "optimizer"])
            learners[family] = to_tree({part: saved[part] for part in ("rl_module", "optimizer")})
        rounds = [{"steps": to_tree(done.steps), "rewards": dict(done.rewards)} for done in self._rounds]
        state: State = {"learners": learners, "rounds": rounds, "fresh": self._fresh, "decisions": self._decisions}
        if self.unpaid is not None:
            state["unpaid"] = to_tree(self.unpaid)
        return state

    def restore(self, state: Any) -> None:
        """Continue from what :meth:`state` gave.

        Raises:
            AgentCheckpointError: for the state of agents that did not learn in the run.
        """
        if "learners" not in state:
            raise AgentCheckpointError(
                "the run's agents were trained by RLlib's own loop: expected them where agents.checkpoint says, as "
                "when the run began."
            )
        self.restore_learners(state["learners"])
        self._rounds = [Round(from_tree(done["steps"]), done["rewards"]) for done in state["rounds"]]
        self._fresh, self._decisions = state["fresh"], state["decisions"]
        self.unpaid = from_tree(state["unpaid"]) if "unpaid" in state else None

    def restore_learners(self, learners: Mapping[str, object]) -> None:
        """Take over modules and optimisers, with nothing learnt from yet."""
        for family, learner in self._learners.items():
            modules = [*self._members[family], *([EVERYONE] if family == "relative" else [])]
            own = [learner.get_optimizer(module) for module in modules]
            rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in own]
            learner.set_state({**from_tree(learners[family]), "weights_seq_no": 0})
            for optimizer, kept in zip(own, rates, strict=True):  # step sizes are this run's, not the saved ones
                for group, lr in zip(optimizer.param_groups, kept, strict=True):
                    group["lr"] = lr
        self._rounds, self._fresh = [Round()], 0


def _curves(results: Mapping[str, Any], agents: Collection[AgentId]) -> dict[str, float]:
    """What RLlib's learner reports of a few agents, by name."""
    curves: dict[str, float] = {}
    if len(agents) > 8:
        return curves
    for agent in agents:
        for name in ("total_loss", ENTROPY, "vf_loss", "policy_loss"):
            value = float(results[agent][name].peek()) if name in results.get(agent, {}) else np.nan
            if np.isfinite(value):  # it is nan for agents that did not act
                curves[curve_of(agent, name)] = value
    return curves
