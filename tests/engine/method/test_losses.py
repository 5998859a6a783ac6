"""Losses of single samples, by hand.

# B batch, K classes
"""

import math

import pytest
import torch
from torch import nn

from strata.engine.errors import LossError
from strata.engine.method.losses import Batch, SmoothedCrossEntropy, cross_entropy, kl_divergence, mean_loss

LOGITS_BK = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0], [0.0, 0.0]])
P_BK = [[1 / 4, 3 / 4], [4 / 5, 1 / 5], [1 / 2, 1 / 2]]  # their softmax
BATCH = Batch(LOGITS_BK, torch.tensor([1, 1, 0]))


def test_cross_entropy_is_minus_the_log_of_the_labels_share_of_each_sample():
    expected = torch.tensor([-math.log(3 / 4), -math.log(1 / 5), math.log(2)])
    torch.testing.assert_close(cross_entropy(nn.Identity(), BATCH), expected)


def test_smoothing_gives_part_of_the_mass_to_all_classes_alike():
    smoothed = SmoothedCrossEntropy(0.2)(nn.Identity(), BATCH)
    targets = [[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]]
    expected = [-sum(t * math.log(p) for t, p in zip(*row, strict=True)) for row in zip(targets, P_BK, strict=True)]
    torch.testing.assert_close(smoothed, torch.tensor(expected))
    torch.testing.assert_close(SmoothedCrossEntropy(0.0)(nn.Identity(), BATCH), cross_entropy(nn.Identity(), BATCH))


def test_the_divergence_is_from_the_teacher_of_each_sample_and_moves_the_student_only():
    teacher, student = LOGITS_BK.clone().requires_grad_(), torch.zeros(3, 2, requires_grad=True)
    found = kl_divergence(teacher, student)
    expected = [sum(p * math.log(p / 0.5) for p in row) for row in P_BK]  # the student is uniform
    torch.testing.assert_close(found, torch.tensor(expected))
    found.sum().backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, 0.5 - torch.tensor(P_BK))  # softmax(student) − softmax(teacher)


def test_it_is_no_symmetric_measure():
    a, b = LOGITS_BK[:1], torch.zeros(1, 2)
    backwards = sum(0.5 * math.log(0.5 / p) for p in P_BK[0])
    torch.testing.assert_close(kl_divergence(b, a), torch.tensor([backwards]))
    assert abs(float(kl_divergence(a, b)) - backwards) > 0.01


def test_the_mean_of_a_loss_is_over_the_batch():
    torch.testing.assert_close(mean_loss(cross_entropy, nn.Identity(), BATCH), torch.tensor(math.log(40 / 3) / 3))


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda model, batch: cross_entropy(model, batch).mean(), r"\(\)"),
        (lambda model, batch: model(batch.x), r"\(3, 2\)"),
        (lambda model, batch: cross_entropy(model, batch)[:2], r"\(2,\)"),
    ],
)
def test_what_is_no_loss_of_each_sample_is_refused_with_its_shape(loss, shape):
    with pytest.raises(LossError, match=rf"<lambda>: .* of shape \(3,\), got shape {shape}\. Leave the mean to the"):
        mean_loss(loss, nn.Identity(), BATCH)


def test_a_refused_loss_without_a_name_is_called_after_its_class():
    class Whole:
        def __call__(self, model, batch):
            return batch.x.sum()

    with pytest.raises(LossError, match=r"^Whole: expected"):
        mean_loss(Whole(), nn.Identity(), BATCH)
