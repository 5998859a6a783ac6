"""Actor-critic networks as RLlib modules: an MLP over a fixed cohort, and one equivariant to its order and size.

Both read rows of clients and give logits of choices, or means of continuous actions with a learnt standard deviation.
Rows without a client get logits 0, or mean 0 and standard deviation 1: constants, which cancel in PPO's ratio.

# B batch, k clients (rows), F features, H hidden units, O outputs per client
"""

import math
from abc import abstractmethod

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian, TorchMultiCategorical
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from strata.agents.rows import PerClient, per_client


class ActorCritic(TorchRLModule, ValueFunctionAPI):
    """What both networks share: action distributions, and masks of rows without a client.

    ``model_config``: ``hidden`` (units per layer) and ``exploration`` (initial standard deviation).
    """

    def setup(self) -> None:
        """Make the layers; RLlib calls this from its constructor."""
        pattern = self.pattern = per_client(self.observation_space, self.action_space)
        if pattern.choices:
            lens = list(pattern.choices) * pattern.clients
            # MultiDiscrete has no default action distribution on the new API stack.
            self.action_dist_cls = TorchMultiCategorical.get_partial_dist_cls(space=self.action_space, input_lens=lens)
        else:
            self.action_dist_cls = TorchDiagGaussian
            start = math.log(self.model_config["exploration"])
            self.log_std = nn.Parameter(torch.full((pattern.outputs,), start))
        self.build(pattern, self.model_config["hidden"])

    @abstractmethod
    def build(self, pattern: PerClient, hidden: int) -> None:
        """Make the layers of actor and critic."""

    @abstractmethod
    def act(self, rows_BkF: Tensor, there_Bk1: Tensor) -> Tensor:
        """Outputs (B, k, O), of rows that may hold no client."""

    @abstractmethod
    def value(self, rows_BkF: Tensor, there_Bk1: Tensor) -> Tensor:
        """Expected return (B,)."""

    def _forward(self, batch: dict[str, Tensor], **kwargs: object) -> dict[str, Tensor]:
        rows = batch[Columns.OBS]
        there = rows[..., :1]
        outputs = self.act(rows, there) * there
        if self.pattern.choices:
            return {Columns.ACTION_DIST_INPUTS: outputs.flatten(-2)}
        log_std = self.log_std.expand_as(outputs) * there
        return {Columns.ACTION_DIST_INPUTS: torch.cat([outputs.flatten(-2), log_std.flatten(-2)], -1)}

    def compute_values(self, batch: dict[str, Tensor], embeddings: Tensor | None = None) -> Tensor:
        """Expected return (B,) of a batch's observations."""
        rows = batch[Columns.OBS]
        return self.value(rows, rows[..., :1])


class EquivariantActorCritic(ActorCritic):
    """One encoder for every client, the mean of all codes as context: any number of clients, in any order.

    The features also reach the outputs linearly, because many good rules (intensity against expected time) are nearly
    linear in their logarithms; both ways start at zero, so a fresh policy prefers nothing.
    """

    def build(self, pattern: PerClient, hidden: int) -> None:
        """Encoder F → H, decoder 2H → H → O beside a linear F → O; the same without the decoder for the value."""
        self.encoder = nn.Sequential(nn.Linear(pattern.features, hidden), nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, pattern.outputs))
        self.direct = nn.Linear(pattern.features, pattern.outputs)
        _zero(self.decoder[-1], self.direct)
        self.value_encoder = nn.Sequential(nn.Linear(pattern.features, hidden), nn.Tanh())
        self.value_decoder = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def act(self, rows_BkF: Tensor, there_Bk1: Tensor) -> Tensor:
        """Outputs (B, k, O): each client's code beside the mean of all, decoded."""
        codes = self.encoder(rows_BkF)
        context = _pool(codes, there_Bk1).unsqueeze(-2).expand_as(codes)
        outputs: Tensor = self.decoder(torch.cat([codes, context], -1)) + self.direct(rows_BkF)
        return outputs

    def value(self, rows_BkF: Tensor, there_Bk1: Tensor) -> Tensor:
        """Expected return (B,), from the mean of the clients' codes."""
        values: Tensor = self.value_decoder(_pool(self.value_encoder(rows_BkF), there_Bk1))
        return values.squeeze(-1)


class MlpActorCritic(ActorCritic):
    """Two hidden layers over all rows at once, for a fixed number of clients."""

    def build(self, pattern: PerClient, hidden: int) -> None:
        """Layers k·F → H → H → k·O, and k·F → H → H → 1."""
        inputs = pattern.clients * pattern.features
        self.actor = _mlp(inputs, hidden, pattern.clients * pattern.outputs)
        self.critic = _mlp(inputs, hidden, 1)
        _zero(self.actor[-1])

    def act(self, rows_BkF: Tensor, there_Bk1: Tensor) -> Tensor:
        """Outputs (B, k, O) of all rows at once."""
        outputs: Tensor = self.actor(rows_BkF.flatten(-2))
        shaped: Tensor = outputs.unflatten(-1, (self.pattern.clients, self.pattern.outputs))
        return shaped

    def value(self, rows_BkF: Tensor, there_Bk1: Tensor) -> Tensor:
        """Expected return (B,) of all rows at once."""
        values: Tensor = self.critic(rows_BkF.flatten(-2))
        return values.squeeze(-1)


def _pool(codes_BkH: Tensor, there_Bk1: Tensor) -> Tensor:
    """Mean code (B, H) of the clients that are there."""
    return (codes_BkH * there_Bk1).sum(-2) / there_Bk1.sum(-2).clamp(min=1)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, outputs)]
    return nn.Sequential(*layers)


def _zero(*layers: nn.Module) -> None:
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.zero_()
