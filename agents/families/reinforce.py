"""One-step REINFORCE over free logits: the virtual agents of PerFedRLNAS, one per client.

J. Yao and B. Li, "Perfedrlnas: One-for-All Personalized Federated Neural Architecture Search", AAAI 2024.

# B batch, m choices (decision slots), Σn logits of all slots
"""

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchMultiCategorical
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

BETAS = (0.5, 0.999)  # of each agent's Adam, as in the authors' released configuration


class VirtualAgent(TorchRLModule):
    """A policy of nothing but its logits α, one row per decision slot: π(a) = Π_d softmax(α_d)[a_d], α = 0 at first."""

    def setup(self) -> None:
        """Make the logits; RLlib calls this from its constructor."""
        lens = [int(n) for n in self.action_space.nvec]
        self.action_dist_cls = TorchMultiCategorical.get_partial_dist_cls(space=self.action_space, input_lens=lens)
        self.logits = nn.Parameter(torch.zeros(sum(lens)))

    def _forward(self, batch: dict[str, Tensor], **kwargs: object) -> dict[str, Tensor]:
        rows = len(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self.all_logits().expand(rows, -1)}

    def all_logits(self) -> Tensor:
        """The logits α, ``(Σn,)``."""
        own: Tensor = self.logits
        return own


def policy_loss(
    module: VirtualAgent, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], advantages_B: Tensor
) -> Tensor:
    """−advantage · log π(action), a mean over an agent's actions in the batch."""
    actions = module.get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
    losses = -advantages_B * actions.logp(batch[Columns.ACTIONS])
    if Columns.LOSS_MASK in batch:
        losses = losses[batch[Columns.LOSS_MASK]]
    loss: Tensor = losses.mean()
    return loss


class ReinforceLearner(TorchLearner):
    """Descends −reward · log π(action): α_d ← Adam step on reward · (softmax(α_d) − onehot(a_d)).

    The reward is used as it is, because the method subtracts its own baseline. An agent that is not in the batch keeps
    its logits and its optimiser's state.
    """

    def compute_loss_for_module(
        self, *, module_id: str, config: AlgorithmConfig, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The loss of one agent, a mean over its actions in the batch."""
        return policy_loss(self.module[module_id].unwrapped(), batch, fwd_out, batch[Columns.REWARDS])

    def configure_optimizers_for_module(self, module_id: str, config: AlgorithmConfig) -> None:
        """An Adam of its own for every agent."""
        module = self._module[module_id]
        parameters = self.get_parameters(module)
        optimizer = torch.optim.Adam(parameters, betas=BETAS)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=parameters, lr_or_lr_schedule=config.lr
        )
