"""Parts of the models for sequences: texts as token ids, and time series.

# B batch, L length, D width of a token, A heads, C channels, F features
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from strata.engine.data.capacity import require_memory
from strata.engine.determinism import torch_scope
from strata.engine.models.base import Buildable

PADDING = 0  # the token id that strata.engine.data.sources.text fills short texts up with
HEAD_SIZE = 16  # channels of one attention head of the text models
SCORE_BYTES = 4 * 3  # of a pair of tokens: its score, its weight, and a gradient
SPREAD = 0.02  # of initial embeddings and positions, as in most transformers


class Attention(nn.Module):
    """Multi-head self-attention with heads of a fixed size; Q, K and V are separate so that each is cut by heads."""

    def __init__(self, width: int, head: int) -> None:
        """``width`` D is a whole number of heads, of ``head`` channels each."""
        super().__init__()
        self.head = head
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, held_BL: Tensor | None = None) -> Tensor:
        """(B, L, D) → (B, L, D); nobody attends to padding, where ``held`` is False. Without it there is none."""
        q, k, v = (_heads(layer(x_BLD), self.head) for layer in (self.q, self.k, self.v))
        # Spelled out: the fused kernels are not counted by torch's FLOP counter on the CPU.
        scores_BALL = q @ k.transpose(2, 3) / math.sqrt(self.head)
        if held_BL is not None:
            # Not -inf, which makes NaN of a text without any token.
            scores_BALL = scores_BALL.masked_fill(~held_BL[:, None, None], torch.finfo(scores_BALL.dtype).min)
        mixed_BLD: Tensor = self.project((scores_BALL.softmax(3) @ v).transpose(1, 2).flatten(2))
        return mixed_BLD


def projection_names(spec: Buildable) -> tuple[str, ...]:
    """Names of the parameters that project to queries, keys and values, in all attention layers of an architecture."""
    with torch_scope(0):
        module = spec.build()
    layers = [layer for layer in module.modules() if isinstance(layer, Attention)]
    projections = {id(p) for layer in layers for part in (layer.q, layer.k, layer.v) for p in part.parameters()}
    return tuple(name for name, parameter in module.named_parameters() if id(parameter) in projections)


def require_attention(length: int, width: int) -> None:
    """Refuse texts of so many tokens that this machine has not the memory for one's scores, of each pair of tokens.

    Raises:
        ResourceError: with the figure.
    """
    scores = width // HEAD_SIZE * length**2
    what = f"attention over {length:,} tokens of a text, {width // HEAD_SIZE} heads"
    require_memory(SCORE_BYTES * scores, what, "Lower data.length.")


def _heads(x_BLD: Tensor, head: int) -> Tensor:
    """(B, L, D) → (B, A, L, D/A)."""
    split: Tensor = x_BLD.unflatten(2, (-1, head))
    return split.transpose(1, 2)


class EncoderBlock(nn.Module):
    """A block of the text models: attention and an MLP of twice the width, each after layer norm, beside a shortcut."""

    def __init__(self, width: int) -> None:
        """``width`` D is a whole number of heads of :data:`HEAD_SIZE` channels."""
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, HEAD_SIZE)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x_BLD: Tensor, held_BL: Tensor) -> Tensor:
        """(B, L, D) → (B, L, D); nobody attends to padding, where ``held`` is False."""
        x_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), held_BL)
        y_BLD: Tensor = x_BLD + self.mlp(self.mlp_norm(x_BLD))
        return y_BLD


class TextFeatures(nn.Module):
    """A transformer encoder: token ids (B, L) → the mean of the tokens' final states → features (B, F)."""

    def __init__(self, vocabulary: int, length: int, width: int, depth: int, features: int) -> None:
        """Make the layers.

        Args:
            vocabulary: number of token ids, padding and unknown words included.
            length: tokens of the longest text.
            width: D, a whole number of heads.
            depth: number of encoder blocks.
            features: F.
        """
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(SPREAD * torch.randn(length, width))
        self.blocks = nn.ModuleList(EncoderBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.dense = nn.Linear(width, features)
        nn.init.normal_(self.embedding.weight, std=SPREAD)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Token ids (B, L) → features (B, F), none of them negative; padding has no influence."""
        held_BL = tokens_BL != PADDING
        x_BLD = self.embedding(tokens_BL) + self.positions[: tokens_BL.shape[1]]
        for block in self.blocks:
            x_BLD = block(x_BLD, held_BL)
        x_BLD = self.norm(x_BLD) * held_BL[:, :, None]
        mean_BD = x_BLD.sum(1) / held_BL.sum(1, keepdim=True).clamp(min=1)
        features_BF: Tensor = self.dense(mean_BD).relu()
        return features_BF


def text_width(width: float) -> int:
    """Return the width of a token that is closest to ``width`` and a whole number of heads, at least one."""
    return HEAD_SIZE * max(1, round(width / HEAD_SIZE))


class OneChannel(nn.Module):
    """Gives a flat series an axis of channels, of which it has one."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, L) → (B, 1, L)."""
        return x.unsqueeze(1)


def series_convolutions(channels: Sequence[int], flat: bool, padding: int) -> nn.Sequential:
    """Convolutions of five steps, each followed by ReLU and a pooling that halves the length.

    Args:
        channels: of the input and of every convolution's output.
        flat: whether inputs are (B, L) instead of (B, C, L).
        padding: steps added at either end before each convolution; 2 keep the length.

    Returns:
        a module (B, C, L) → (B, the last channels × what is left of the length).
    """
    layers: list[nn.Module] = [OneChannel()] if flat else []
    for a, b in pairwise(channels):
        layers += [nn.Conv1d(a, b, 5, padding=padding), nn.ReLU(), nn.MaxPool1d(2)]
    return nn.Sequential(*layers, nn.Flatten())
