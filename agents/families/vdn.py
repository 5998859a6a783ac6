"""Value decomposition: an agent whose joint value is the sum of its clients' utilities.

P. Sunehag et al., "Value-Decomposition Networks for Cooperative Multi-Agent Learning", 2017 (arXiv 1706.05296), as
FedDdrl uses it: Q(o, a) = Σ_i Q_i(o_i, a_i), learnt by regression on the round's reward. Later rounds are not counted
in (γ = 0), because a round's decisions hardly reach beyond it.

# B batch, k clients (rows), F features, O outputs per client (utilities of all options)
"""

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchMultiCategorical
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from strata.agents.rows import per_client

HALF_LIFE = 50.0  # actions after which exploration has halved


class DecomposedValue(TorchRLModule):
    """Utilities of every client's options, by one network for all clients; ε-greedy in training.

    ``model_config``: ``hidden`` and ``epsilon``, the share of random actions at first. How many actions were taken is
    part of the module's state, so that exploration goes on where it was.
    """

    def setup(self) -> None:
        """Make the layers; RLlib calls this from its constructor."""
        pattern = self.pattern = per_client(self.observation_space, self.action_space)
        if not pattern.choices:
            raise ValueError(f"value decomposition needs discrete actions, not {self.action_space}")
        lens = list(pattern.choices) * pattern.clients
        self.action_dist_cls = TorchMultiCategorical.get_partial_dist_cls(space=self.action_space, input_lens=lens)
        hidden = self.model_config["hidden"]
        self.utilities = nn.Sequential(
            nn.Linear(pattern.features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, pattern.outputs),
        )
        self.register_buffer("actions_taken", torch.zeros(()))

    def values(self, rows_BkF: Tensor) -> Tensor:
        """Utilities (B, k, O); 0 where there is no client."""
        utilities: Tensor = self.utilities(rows_BkF) * rows_BkF[..., :1]
        return utilities

    def _forward(self, batch: dict[str, Tensor], **kwargs: object) -> dict[str, Tensor]:
        return {Columns.ACTION_DIST_INPUTS: self.values(batch[Columns.OBS]).flatten(-2)}

    def _forward_exploration(self, batch: dict[str, Tensor], **kwargs: object) -> dict[str, Tensor]:
        """Logits whose softmax is the ε-greedy policy."""
        values = self.values(batch[Columns.OBS])
        epsilon = self.model_config["epsilon"] * 0.5 ** (self.actions_taken / HALF_LIFE)
        self.actions_taken += 1
        parts = []
        for options in values.split(self.pattern.choices, -1):
            n = options.shape[-1]
            greedy = nn.functional.one_hot(options.argmax(-1), n)
            parts.append(torch.log((1 - epsilon) * greedy + epsilon / n + 1e-12))
        return {Columns.ACTION_DIST_INPUTS: torch.cat(parts, -1).flatten(-2)}


class DecompositionLearner(TorchLearner):
    """Regression of Σ_i Q_i(o_i, a_i) on the reward of the round."""

    def compute_loss_for_module(
        self, *, module_id: str, config: AlgorithmConfig, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Mean squared error of one agent's joint values."""
        module = self.module[module_id].unwrapped()
        pattern = module.pattern
        values = fwd_out[Columns.ACTION_DIST_INPUTS].unflatten(-1, (pattern.clients, pattern.outputs))
        taken = batch[Columns.ACTIONS].long().unflatten(-1, (pattern.clients, len(pattern.choices)))
        parts = values.split(pattern.choices, -1)
        joint = sum(part.gather(-1, taken[..., i : i + 1]).sum((-1, -2)) for i, part in enumerate(parts))
        assert isinstance(joint, Tensor)
        losses = (joint - batch[Columns.REWARDS]) ** 2
        if Columns.LOSS_MASK in batch:
            losses = losses[batch[Columns.LOSS_MASK]]
        loss: Tensor = losses.mean()
        return loss
