"""The building blocks, each of exactly one size: a subnet is a plain module.

Beyond these, NASViT has in its attention blocks: values four times as wide with a depthwise convolution, talking heads,
relative position biases, a second MLP, and scales per depth. Here positions come from the zero-padded depthwise
convolutions of each stage's first block.

# B batch, C channels, H height, W width, N = H·W tokens, A = heads
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from strata.engine.models.sequences import Attention
from strata.engine.models.supernets.space import HEAD_SIZE, Style

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"hardswish": nn.Hardswish, "silu": nn.SiLU}


class Resize(nn.Module):
    """Images (B, C, H, W) → (B, C, side, side), bicubic [NASViT]."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, side, side)."""
        return F.interpolate(x, size=(self.side, self.side), mode="bicubic")


def convolution(
    inputs: int, outputs: int, kernel: int, style: Style, stride: int = 1, groups: int = 1, activate: bool = True
) -> nn.Sequential:
    """Convolution, batch norm, activation: (B, inputs, H, W) → (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(outputs, momentum=style.norm_momentum),
    )
    if activate:
        layers["activation"] = ACTIVATIONS[style.activation]()
    return nn.Sequential(layers)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer behind the pooling, with He's initial values: torch's own make the first epochs learn nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class SqueezeExcite(nn.Module):
    """Scale each channel by what a bottleneck of a quarter of the channels makes of their means [MobileNetV3]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, 8 * round(channels / 4 / 8))
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        squeezed = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.expand(squeezed))


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, squeeze-and-excite, 1×1 projection [MobileNetV2, MobileNetV3].

    The shortcut is there where ``shortcut`` says so (every block of a stage but the first), whichever widths happen to
    be equal. An expansion of 1 has no expanding convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        expansion: int,
        style: Style,
        squeeze_excite: bool,
        stride: int = 1,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion > 1:
            layers["expand"] = convolution(inputs, hidden, 1, style)
        layers["depthwise"] = convolution(hidden, hidden, kernel, style, stride, groups=hidden)
        if squeeze_excite:
            layers["squeeze"] = SqueezeExcite(hidden)
        layers["project"] = convolution(hidden, outputs, 1, style, activate=False)
        self.residual = nn.Sequential(layers)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y: Tensor = self.residual(x)
        return x + y if self.shortcut else y


class AttentionBlock(nn.Module):
    """Attention and an MLP on the pixels of a feature map, each after layer norm and beside a shortcut."""

    def __init__(self, width: int, mlp_expansion: int, style: Style) -> None:
        super().__init__()
        hidden = width * mlp_expansion
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, HEAD_SIZE)
        self.mlp_norm = nn.LayerNorm(width)
        layers = OrderedDict(
            expand=nn.Linear(width, hidden),
            activation=ACTIVATIONS[style.activation](),
            project=nn.Linear(hidden, width),
        )
        self.mlp = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        tokens_BNC: Tensor = x.flatten(2).transpose(1, 2)
        tokens_BNC = tokens_BNC + self.attention(self.attention_norm(tokens_BNC))
        y_BNC: Tensor = tokens_BNC + self.mlp(self.mlp_norm(tokens_BNC))
        return y_BNC.transpose(1, 2).reshape(x.shape)
