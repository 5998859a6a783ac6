"""A family of two architectures, and the smaller one in numpy, for the methods whose clients differ in theirs."""

import numpy as np

from strata.engine.models.spec import Family, ModelSpec
from tests.helpers.arithmetic.linear import LR, D, K, X, softmax, spec

MCLR = ModelSpec("mclr", (D,), K)  # 18 numbers, fewer than the linear model's 39: the smallest of the two
PAIR = Family((spec(), MCLR))
SETTINGS = {"lr": LR, "epochs": 0, "steps": 1, "batch_size": 100}


def plain_logits(w):
    return X @ w["head.weight"].T + w["head.bias"]


def plain_backward(d):
    return {"head.weight": d.T @ X, "head.bias": d.sum(0)}


def teach(z_student, z_teacher):
    """KL(teacher ‖ student), and its gradient by the student's logits."""
    p, q = softmax(z_teacher), softmax(z_student)
    return (p * (np.log(p) - np.log(q))).sum(1).mean(), (q - p) / len(p)
