"""LG-FedAvg against numpy."""

import numpy as np
import pytest
import torch

from strata.algorithms import lg_fedavg
from strata.engine.errors import ConfigError
from strata.engine.method.messages import Received
from strata.engine.models.spec import Family, ModelSpec
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.families import SETTINGS
from tests.helpers.arithmetic.linear import (
    INFO,
    ONE_STEP,
    D,
    F,
    K,
    arrays,
    assert_close,
    backward,
    drive,
    error,
    forward,
    fresh,
    linear,
    spec,
    step,
)
from tests.helpers.moments import AT


def test_lg_fedavg_trains_its_features_under_the_received_head_and_uploads_the_head():
    method = lg_fedavg.LgFedAvg(lg_fedavg.LgFedAvgConfig(**SETTINGS), spec())
    own, g = fresh(spec()), method.init_global(9)
    result, _ = drive(method, lg_fedavg.Private(own), method.to_client(g, INFO, ONE_STEP.told()))
    w = arrays({**own, **g.h})
    assert set(g.h) == {"head.weight", "head.bias"}
    assert not np.allclose(w["head.weight"], own["head.weight"])
    expected = step(w, backward(w, error(forward(w)[1])))
    assert_close(result.state.model, expected, w)
    assert_close(result.up.h, {name: expected[name] for name in g.h})
    assert set(result.up.h) == set(g.h)
    assert count_bytes(result.up) == 4 * (F * K + K)


def test_lg_fedavg_weights_heads_by_samples():
    method = lg_fedavg.LgFedAvg(lg_fedavg.LgFedAvgConfig(**SETTINGS), spec())
    ups = [Received(c, n, lg_fedavg.Up({"head.bias": torch.tensor([v])})) for c, n, v in ((0, 10, 1.0), (1, 30, 5.0))]
    assert method.global_step(None, ups, AT).h["head.bias"].tolist() == [(10 * 1 + 30 * 5) / 40]


def test_lg_fedavg_refuses_heads_that_differ():
    deeper = ModelSpec(f"{__name__}:deeper", (D,), K)
    with pytest.raises(ConfigError, match="shares the head"):
        lg_fedavg.LgFedAvg(lg_fedavg.LgFedAvgConfig(), Family((spec(), deeper)))


def deeper(input_shape, classes):
    module = linear(input_shape, classes)
    module.head = torch.nn.Sequential(torch.nn.Linear(F, 6), torch.nn.Linear(6, classes))
    return module
