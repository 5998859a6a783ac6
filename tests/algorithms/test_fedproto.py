"""FedProto against numpy: prototypes, and answers by the nearest."""

import numpy as np
import pytest
import torch

from strata.algorithms import fedproto
from strata.engine.errors import StrataError
from strata.engine.federation import Federation
from strata.engine.method.messages import Received
from strata.engine.training.sequential import Sequential
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.families import SETTINGS
from tests.helpers.arithmetic.linear import (
    DATA,
    INFO,
    ONE_STEP,
    ROWS,
    D,
    F,
    K,
    N,
    Y,
    arrays,
    assert_close,
    backward,
    cross_entropy,
    drive,
    error,
    evaluate,
    forward,
    fresh,
    spec,
    step,
)
from tests.helpers.moments import AT
from tests.helpers.small import small
from tests.helpers.training import lead


def proto(**settings):
    return fedproto.FedProto(fedproto.FedProtoConfig(**SETTINGS, **settings), spec())


def some_prototypes(classes, seed=3):
    draw = torch.Generator().manual_seed(seed)
    return fedproto.Prototypes(torch.tensor(classes), torch.randn(len(classes), F, generator=draw))


def test_fedproto_is_pulled_to_known_prototypes_and_sends_class_means():
    lam, shared, omega = 0.7, some_prototypes([0, 2]), fresh(spec())
    result, _ = drive(proto(lam=lam), fedproto.Private(omega, shared), fedproto.Down(shared, ONE_STEP))
    w = arrays(omega)
    f, z = forward(w)
    d_f = np.zeros_like(f)
    for j, mean in zip(shared.classes.tolist(), shared.means.double().numpy(), strict=True):
        d_f[j == Y] = 2 * lam * (f[j == Y] - mean) / (N * F)  # of λ · mean over batch and features
    after = step(w, backward(w, error(z), d_f))
    assert_close(result.state.omega, after, w)
    f, _ = forward(after)
    assert result.up.prototypes.classes.tolist() == [0, 1, 2]
    means = np.stack([f[j == Y].mean(0) for j in range(K)])
    np.testing.assert_allclose(result.up.prototypes.means.numpy(), means, atol=1e-6)
    assert result.up.counts.tolist() == [(j == Y).sum() for j in range(K)]
    assert count_bytes(result.up) == K * F * 4 + K * 8 + K * 8


def test_a_client_sends_the_classes_it_has_and_pays_for_a_forward_pass():
    rows = ROWS[Y != 1]
    nothing, shared = proto().no_prototypes(), some_prototypes([1, 2])
    result, work = drive(proto(), fedproto.Private(fresh(spec()), nothing), fedproto.Down(shared, ONE_STEP), rows=rows)
    assert result.up.prototypes.classes.tolist() == [0, 2]
    assert result.state.prototypes.classes.tolist() == [0, 1, 2]  # it answers by the received one for class 1
    assert torch.equal(result.state.prototypes.means[1], shared.means[0])
    assert torch.equal(result.state.prototypes.means[2], result.up.prototypes.means[1])
    features, head = 2 * len(rows) * D * F, 2 * len(rows) * F * K
    training = 2 * features + 3 * head  # the inputs need no gradient, the features do
    assert work.flops == training + features


def test_global_prototypes_are_means_over_samples_and_stay_where_nobody_has_the_class():
    def up(client, classes, values, counts):
        means = torch.tensor(values)[:, None].expand(-1, F)
        message = fedproto.Up(fedproto.Prototypes(torch.tensor(classes), means), torch.tensor(counts))
        return Received(client, 1, message)

    before = fedproto.Global(fedproto.Prototypes(torch.tensor([1, 2]), torch.full((2, F), 7.0)))
    after = proto().global_step(before, [up(0, [0, 2], [1.0, 2.0], [3, 10]), up(1, [0], [5.0], [1])], AT).prototypes
    assert after.classes.tolist() == [0, 1, 2]
    assert after.means[:, 0].tolist() == [(3 * 1 + 1 * 5) / 4, 7.0, 2.0]


def test_the_answer_is_the_nearest_prototype_and_never_a_class_without_one():
    omega, known = fresh(spec()), some_prototypes([0, 1])
    answer = evaluate(proto(), fedproto.Private(omega, known))
    f, _ = forward(arrays(omega))
    distances = ((f[:, None] - known.means.double().numpy()) ** 2).mean(2)
    assert answer.correct == (distances.argmin(1) == Y).sum()
    logits = -np.concatenate([distances, distances.max(1, keepdims=True) + 1], 1)
    assert answer.loss_sum == pytest.approx(N * cross_entropy(logits), rel=1e-5)


def nearest(omega, prototypes):
    f, _ = forward(arrays(omega))
    distances = ((f[:, None] - prototypes.means.double().numpy()) ** 2).mean(2)
    return (prototypes.classes.numpy()[distances.argmin(1)] == Y).sum()


def test_a_client_may_answer_by_its_head_or_by_the_global_prototypes():
    omega, own, shared = fresh(spec()), some_prototypes([0, 1, 2], 2), some_prototypes([0, 1, 2], 5)
    expected = {
        "own": nearest(omega, own),
        "global": nearest(omega, shared),
        "head": (forward(arrays(omega))[1].argmax(1) == Y).sum(),
    }
    assert len(set(expected.values())) == 3, "the three would not differ"
    for answer, correct in expected.items():
        method = proto(answer=answer)
        assert scored(method, fedproto.Private(omega, own), fedproto.Global(shared)).correct == correct


def test_the_head_answers_until_there_are_global_prototypes():
    method, omega = proto(answer="global"), fresh(spec())
    before = fedproto.Global(method.no_prototypes())
    by_head = (forward(arrays(omega))[1].argmax(1) == Y).sum()
    assert scored(method, fedproto.Private(omega, some_prototypes([0, 1, 2], 1)), before).correct == by_head


def scored(method, state, g):
    model = method.global_model(g)
    steps = method.client_evaluate(INFO, state, {} if model is None else {"GM": model})
    scores, _ = lead(Sequential(DATA), steps, ROWS, ROWS, 0, "client 0")
    return scores["PM"]


@pytest.mark.parametrize("answer", ["own", "head", "global"])
def test_models_are_served_as_they_are_evaluated(answer):
    with Federation(small("fedproto", f"method.answer={answer}", "rounds=1")) as federation:
        (record,) = federation
        model = federation.client_model(0)
        with pytest.raises(StrataError, match="has no global model"):
            federation.global_model()
    assert hasattr(model, "means") == (answer != "head")
    assert record.scores["PM"].accuracy > 0.1


def test_a_client_answers_by_its_own_prototypes_before_the_global_ones():
    own, shared = some_prototypes([0, 2], 1), some_prototypes([1, 2], 2)
    both = fedproto.overlaid(shared, own)
    assert both.classes.tolist() == [0, 1, 2]
    assert torch.equal(both.means, torch.stack([own.means[0], shared.means[0], own.means[1]]))
