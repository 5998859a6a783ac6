"""A supernet with few architectures, PerFedRLNAS on it, and its clients."""

import numpy as np

from strata.algorithms.perfedrlnas import PerFedRLNAS, PerFedRLNASConfig
from strata.engine.method.messages import ClientInfo
from strata.engine.models.spec import ModelSpec
from tests.helpers.small import small

# Two widths and two kernels to choose from: 4 architectures.
FOUR = {"stage2.depth": [1], "stage3.depth": [1], "stage3.width": [24], "stage2.kernel": [3], "stage3.kernel": [3]}
FOUR |= {"stage2.width": [16], "stage2.expansion": [2], "stage3.expansion": [2], "stage1.depth": [1]}
ONE = {**FOUR, "stage1.width": [16], "stage1.kernel": [5]}


def model(options, architecture="largest"):
    text = ", ".join(f"{slot}: {values}" for slot, values in options.items())
    return f"model={{name: mobilenetv3_small, architecture: {architecture!r}, options: {{{text}}}}}"


def method_of(options=FOUR, architecture="largest", **settings):
    slots = tuple((slot, tuple(values)) for slot, values in options.items())
    spec = ModelSpec("mobilenetv3_small", (1, 28, 28), 10, (("architecture", architecture), ("slots", slots)))
    return PerFedRLNAS(PerFedRLNASConfig(**settings), spec)


def info_of(client, samples=40):
    return ClientInfo(client, None, samples, 10, np.full(10, samples // 10), "laptop", 1e9)


def searching(*words):
    return small("perfedrlnas", model(FOUR), "data.limit=240", "clients.participation=0.5", *words)
