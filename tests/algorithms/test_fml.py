"""FML against numpy."""

import pytest
import torch

from strata.algorithms import fml
from strata.engine.method.messages import Received
from strata.engine.models.base import parameter_count
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.families import MCLR, PAIR, SETTINGS, plain_backward, plain_logits, teach
from tests.helpers.arithmetic.linear import (
    ONE_STEP,
    arrays,
    assert_close,
    backward,
    cross_entropy,
    drive,
    error,
    forward,
    fresh,
    spec,
    step,
)
from tests.helpers.moments import AT


def test_fml_matches_numpy():
    alpha, beta = 0.3, 0.8
    method = fml.FML(fml.FMLConfig(**SETTINGS, alpha=alpha, beta=beta), PAIR)
    assert method.shared == MCLR
    p, g = fresh(spec()), fresh(MCLR, 4)
    result, _ = drive(method, fml.Private(p), fml.Down(g, ONE_STEP))
    wp, wg = arrays(p), arrays(g)
    zp, zg = forward(wp)[1], plain_logits(wg)
    d_p = alpha * error(zp) + (1 - alpha) * teach(zp, zg)[1]
    d_g = beta * error(zg) + (1 - beta) * teach(zg, zp)[1]
    assert_close(result.state.p, step(wp, backward(wp, d_p)), wp)
    assert_close(result.up.g, step(wg, plain_backward(d_g)), wg)
    assert count_bytes(result.up) == 4 * parameter_count(MCLR)


def test_fml_loss_is_both_models():
    method = fml.FML(fml.FMLConfig(**SETTINGS, alpha=0.3, beta=0.8), PAIR)
    p, g = fresh(spec()), fresh(MCLR, 4)
    _, work = drive(method, fml.Private(p), fml.Down(g, ONE_STEP))
    zp, zg = forward(arrays(p))[1], plain_logits(arrays(g))
    loss_p = 0.3 * cross_entropy(zp) + 0.7 * teach(zp, zg)[0]
    loss_g = 0.8 * cross_entropy(zg) + 0.2 * teach(zg, zp)[0]
    assert work.loss == pytest.approx(loss_p + loss_g, rel=1e-5)


def test_fml_weights_the_shared_model_by_samples():
    method = fml.FML(fml.FMLConfig(**SETTINGS), PAIR)
    ups = [Received(c, n, fml.Up({"w": torch.tensor([v])})) for c, n, v in ((0, 10, 1.0), (1, 30, 5.0))]
    assert method.global_step(None, ups, AT).g["w"].tolist() == [4.0]
