"""One-step REINFORCE against an agent's own past, over logits of which all agents share a part [ours].

For virtual agents of clients that differ more than what they choose among: whoever has easy data is not to be praised
for whatever it drew.

Symbols
    R_i, R̄_i   what agent i is paid; the mean of its last ``calls`` payments before
    v           v ← memory v + (1 − memory) mean_i A_i², over those of a round that have a baseline; at first the mean
    α_i         logits of agent i: its own a_i + b, which all share;  π_i = softmax(α_i), slot by slot

Per update
    A_i = R_i − R̄_i, divided by √v
    a_i ← a_i − lr A_i (π_i − onehot);  b ← b − lr · shared · Σ_i A_i (π_i − onehot)

Steps are plain: Adam makes steps of one size, however little an advantage says. An agent's first payment has nothing to
be compared with, and teaches nothing.

# B batch, m choices (decision slots), Σn logits of all slots
"""

from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from strata.agents.families.reinforce import VirtualAgent, policy_loss

EVERYONE = "everyone"
"""The module that holds what agents share; no agent has this name."""


class Everyone(TorchRLModule):
    """What all agents share: the logits b, and v, 0 before the first advantage. It does not act.

    ``model_config``: ``lr``, the step size of b.
    """

    def setup(self) -> None:
        """Make logits and mean; RLlib calls this from its constructor."""
        self.logits = nn.Parameter(torch.zeros(sum(int(n) for n in self.action_space.nvec)))
        self.register_buffer("mean_square", torch.zeros(1))  # RLlib restores float32 alone to the bit

    def _forward(self, batch: dict[str, Tensor], **kwargs: object) -> dict[str, Tensor]:
        raise NotImplementedError("what agents share is no policy of its own")


class RelativeAgent(VirtualAgent):
    """A virtual agent of own logits a, which remembers what it was paid and leans on logits that all share.

    ``model_config``: ``calls``, how many payments it remembers.
    """

    def setup(self) -> None:
        """Make the logits, and room for the payments, NaN where there was none; RLlib calls this."""
        super().setup()
        self.register_buffer("paid", torch.full((self.model_config["calls"],), torch.nan))
        self._everyone: tuple[Everyone, ...] = ()  # in a tuple it is no part of this module's state

    def lean_on(self, everyone: Everyone) -> None:
        """Add the logits of another module to those of this one from now on."""
        self._everyone = (everyone,)

    def all_logits(self) -> Tensor:
        """The logits α = a + b, ``(Σn,)``."""
        total: Tensor = super().all_logits()
        for everyone in self._everyone:
            total = total + everyone.logits
        return total

    def advantages(self, rewards_B: Tensor) -> Tensor:
        """Rewards less the mean of those remembered, NaN where there are none, ``(B,)``; remembers the rewards."""
        if not len(self.paid):
            return rewards_B
        found: Tensor = rewards_B - self.paid.nanmean()
        self.paid.copy_(torch.cat([self.paid, rewards_B])[-len(self.paid) :])
        return found


class RelativeLearner(TorchLearner):
    """Descends −advantage · log π(action) by plain steps; see the module's docstring.

    RLlib adds up the agents' losses, so the gradient of b is the sum over them. An agent that is not in the batch keeps
    its own logits.
    """

    def build(self) -> None:
        """Build the modules, and let the agents lean on what they share."""
        super().build()
        everyone = self.module[EVERYONE].unwrapped()
        for name in self.module.keys():  # noqa: SIM118  # RLlib's, which is no dict
            if name != EVERYONE:
                self.module[name].unwrapped().lean_on(everyone)

    def compute_losses(self, *, fwd_out: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """The loss of each agent, of advantages that are made here; an agent without a baseline has none."""
        everyone = self.module[EVERYONE].unwrapped()
        memory = float(self.module[EVERYONE].model_config["memory"])
        with torch.no_grad():
            found = {name: self._advantages(name, batch[name]) for name in fwd_out}
            squares = torch.cat(list(found.values())).square()
            squares = squares[torch.isfinite(squares)]
            if memory and len(squares):
                before, now = everyone.mean_square, squares.mean()
                everyone.mean_square.copy_(memory * before + (1 - memory) * now if before else now)
            scale = everyone.mean_square.sqrt() if memory and everyone.mean_square else 1.0
        return {
            name: policy_loss(self.module[name].unwrapped(), batch[name], out, (found[name] / scale).nan_to_num())
            for name, out in fwd_out.items()
        }

    def _advantages(self, name: str, batch: dict[str, Tensor]) -> Tensor:
        advantages: Tensor = self.module[name].unwrapped().advantages(batch[Columns.REWARDS])
        return advantages

    def compute_loss_for_module(
        self, *, module_id: str, config: AlgorithmConfig, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The loss of one agent that is by itself; RLlib wants it declared."""
        losses: dict[str, Tensor] = self.compute_losses(fwd_out={module_id: fwd_out}, batch={module_id: batch})
        return losses[module_id]

    def configure_optimizers_for_module(self, module_id: str, config: AlgorithmConfig) -> None:
        """Plain descent, at a step size of its own for what is shared."""
        module = self._module[module_id]
        lr = module.model_config["lr"] if module_id == EVERYONE else config.lr
        parameters = self.get_parameters(module)
        optimizer = torch.optim.SGD(parameters, lr=lr)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=parameters)
