"""Networks written out a second time, to hold the engine's against."""

import torch
import torch.nn.functional as F
from torch import nn


def chained(module, x, padding=0, stride=2):
    """Features and logits: convolutions, each with ReLU and a pooling over two, then dense layers with ReLU between."""
    values = iter([parameter.detach() for parameter in module.parameters()])
    *hidden, head = zip(values, values, strict=True)  # weight and bias of each layer
    for weight, bias in hidden:
        if weight.ndim == 2:
            x = F.linear(x.flatten(1), weight, bias).relu()
        else:
            convolve, pool = (F.conv1d, F.max_pool1d) if weight.ndim == 3 else (F.conv2d, F.max_pool2d)
            x = pool(convolve(x, weight, bias, padding=padding).relu(), 2, stride)
    return x.flatten(1), F.linear(x.flatten(1), *head)


def encoder_layer(block, head, activation):
    """torch's own encoder layer with the weights of a block: norm, Q, K, V, projection, norm, and the MLP's two."""
    own = [parameter.detach() for parameter in block.parameters()]
    width, hidden = own[0].numel(), own[12].shape[0]
    layer = nn.TransformerEncoderLayer(width, width // head, hidden, 0.0, activation, batch_first=True, norm_first=True)
    queries_keys_values = [torch.cat(own[2:8:2]), torch.cat(own[3:8:2])]
    ordered = [*queries_keys_values, *own[8:10], *own[12:16], *own[:2], *own[10:12]]
    layer.load_state_dict(dict(zip(layer.state_dict(), ordered, strict=True)))
    return layer
