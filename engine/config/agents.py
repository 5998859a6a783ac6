"""The ``agents`` part of the configuration: who makes a method's decisions, and how policies learn."""

from dataclasses import dataclass
from typing import Literal

from strata.engine.errors import ConfigError
from strata.engine.options import Validated, option


@dataclass(frozen=True)
class AgentsConfig(Validated):
    """The group ``agents``: who makes a method's decisions, and how policies learn.

    A method without decisions takes no policy but ``none``, and ignores the rest.
    """

    policy: str = option(
        "none", "none (the method's defaults), rllib (learnt policies), or a rule of the method's: uniform, random, …"
    )
    layout: str = option("", "how decisions are divided among agents, e.g. size+intensity; empty: the method's first")
    mode: Literal["train", "freeze"] = option("train", "rllib: train goes on learning in this run; freeze only acts")
    learn_rounds: int = option(
        0, "rllib: learn in so many rounds and then only act, by what is likeliest; 0: learn in all", ge=0
    )
    checkpoint: str = option("", "rllib: folder of agents saved by `strata train-agents` or by a run, to start from")
    network: Literal["equivariant", "mlp"] = option(
        "equivariant", "rllib: equivariant (any number of clients) or mlp (a fixed number per round)"
    )
    hidden: int = option(64, "rllib: units of each hidden layer; networks have two", ge=1)
    rounds_per_update: int = option(5, "rllib: rounds between two updates", ge=2)
    epochs: int = option(16, "ppo: passes over those rounds per update", ge=1)
    lr: dict[str, float] = option({}, "rllib: step size by agent, e.g. {size: 0.001}; others: the method's advice")
    gamma: float = option(0.0, "ppo: discount of later rounds; decisions hardly reach beyond their own", ge=0, lt=1)
    clip: float = option(0.2, "ppo: how far an update may move the probability ratio", gt=0)
    entropy: float = option(0.0, "ppo: weight of the entropy bonus", ge=0)
    exploration: float = option(0.35, "ppo: initial standard deviation of continuous actions", gt=0)
    epsilon: float = option(0.2, "vdn: share of random actions, halved every 50 rounds", ge=0, le=1)
    replay: int = option(200, "vdn: rounds kept for replay", ge=1)
    pretrain_rounds: int = option(0, "rllib: rounds of the timing model to learn from before the first round", ge=0)

    def validate(self, path: str) -> None:
        """Refuse settings that do not fit the chosen policy; ``path`` prefixes the keys in errors.

        Raises:
            ConfigError: when nothing learnt is there to freeze, a rule is given a checkpoint, or a step size is not >
                0.
        """
        if self.policy == "rllib" and self.mode == "freeze" and not (self.checkpoint or self.pretrain_rounds):
            raise ConfigError(
                f"{path}mode=freeze: there is nothing learnt to freeze. Give {path}checkpoint, from "
                f"`strata train-agents`, or {path}pretrain_rounds."
            )
        if self.policy != "rllib" and self.checkpoint:
            raise ConfigError(f"{path}checkpoint: only learnt agents have one; set {path}policy=rllib.")
        for agent, lr in self.lr.items():
            if not lr > 0:
                raise ConfigError(f"{path}lr.{agent}={lr:g} is out of range: expected > 0.")
