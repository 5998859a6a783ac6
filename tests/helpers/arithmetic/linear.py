"""A model with linear features, in torch and in numpy, for references that methods are held against.

# n samples, d inputs, F features, K classes
"""

import numpy as np
from torch import nn

from strata.engine.data.dataset import Dataset
from strata.engine.method.length import Length
from strata.engine.method.messages import ClientInfo, Context
from strata.engine.models.base import FeatureModel, init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.sequential import Sequential
from tests.helpers.training import lead

D, F, K, N = 5, 4, 3, 12  # all different, so that a transposed matrix shows
RNG = np.random.default_rng(0)
DATA = Dataset("toy", RNG.normal(size=(N, D)).astype("f4"), np.arange(N) % K, K)
X, Y, ROWS = DATA.x.astype("f8"), DATA.y, np.arange(N)
INFO = ClientInfo(0, None, N, N, np.bincount(Y, minlength=K), "laptop", 1e9)
WORK = {"epochs": 0, "steps": 1}
ONE_STEP = Length(steps=1)
LR = 0.3


def linear(input_shape, classes, width=F, most=None):
    """Linear features under a linear head."""
    width = width if most is None else min(width, most)
    return FeatureModel(nn.Linear(input_shape[0], width), nn.Linear(width, classes))


def normed(input_shape, classes, width=F):
    """The same with batch norm between."""
    return FeatureModel(
        nn.Sequential(nn.Linear(input_shape[0], width), nn.BatchNorm1d(width)), nn.Linear(width, classes)
    )


def spec(name="linear", **options):
    return ModelSpec(f"{__name__}:{name}", (D,), K, tuple(sorted(options.items())))


def drive(method, state, down, info=INFO, seed=1, rows=ROWS, data=DATA):
    """A client call's result, and its work."""
    steps = method.client_step(info, state, down, Context(1, 1, seed))
    return lead(Sequential(data), steps, rows, rows, seed, "client 0")


def evaluate(method, state, info=INFO, rows=ROWS, data=DATA):
    scores, _ = lead(Sequential(data), method.client_evaluate(info, state, {}), rows, rows, 0, "client 0")
    return scores["PM"]


def requests(steps, answers):
    """What a client step asks for, given the answers."""
    asked = [next(steps)]
    for answer in answers:
        asked.append(steps.send(answer))
    return asked


def arrays(params):
    return {name: value.double().numpy().copy() for name, value in params.items()}


def fresh(spec, seed=0):
    return init_params(spec, seed)


def softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def cross_entropy(z, y=Y):
    return -np.log(softmax(z)[np.arange(len(y)), y]).mean()


def error(z, y=Y):
    """Gradient of the mean cross-entropy by the logits."""
    p = softmax(z)
    p[np.arange(len(y)), y] -= 1
    return p / len(y)


def forward(w, x=X):
    """Features and logits of the linear model."""
    f = x @ w["features.weight"].T + w["features.bias"]
    return f, f @ w["head.weight"].T + w["head.bias"]


def backward(w, d_logits, d_features=0.0, x=X):
    """Gradient by the parameters, given those of the loss by the logits and, beside the head, by the features."""
    f, _ = forward(w, x)
    d_f = d_logits @ w["head.weight"] + d_features
    return {
        "features.weight": d_f.T @ x,
        "features.bias": d_f.sum(0),
        "head.weight": d_logits.T @ f,
        "head.bias": d_logits.sum(0),
    }


def step(w, gradient):
    return {name: value - LR * gradient[name] for name, value in w.items()}


def assert_close(found, expected, start=None):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].double().numpy(), value, atol=2e-6, err_msg=name)
        if start is not None:
            assert abs(value - start[name]).max() > 1e-4, f"{name}: holds for a method that does nothing"
