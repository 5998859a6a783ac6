"""Softmax regression in numpy, for references that methods are held against."""

import numpy as np

FULL_BATCH = 10_000  # more than any client of these tests has: the order of the samples then does not matter


def gradient(weight, bias, x, y):
    """Mean cross-entropy gradient; x (n, d), y (n,)."""
    logits = x @ weight.T + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p.T @ x / len(y), p.mean(0)


def client_arrays(data):
    """Inputs (n, 784) as the models see them and classes (n,) of every client's training rows, in float64."""
    pixels = (data.dataset.x.reshape(len(data.dataset.x), -1) / 255.0 - data.dataset.shift) / data.dataset.scale
    return {c: (pixels[rows.train], data.dataset.y[rows.train]) for c, rows in enumerate(data.clients)}
