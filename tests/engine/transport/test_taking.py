"""Robust means by hand, and noise in the sum of uploads."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from strata.engine.errors import ConfigError
from strata.engine.method.messages import Received
from strata.engine.transport.taking import Taking


@dataclass(frozen=True)
class Message:
    w: dict
    beside: torch.Tensor


SENT = Message({"a": torch.tensor([1.0, 1.0])}, torch.zeros(1))


def uploads(*changes, sent=SENT):
    """Uploads of clients 0, 1, … that changed what they were sent by so much, and hold their number beside."""
    return [
        Received(client, 10 + client, Message({"a": sent.w["a"] + torch.tensor(change)}, torch.tensor([client])))
        for client, change in enumerate(changes)
    ]


def taken(mean, *changes, share=0.2, **how):
    ups = uploads(*changes, **how)
    return Taking(mean, share).taken(ups, {up.sender: how.get("sent", SENT) for up in ups}, 3)


CHANGES = ([1.0, 5.0], [2.0, -100.0], [3.0, 4.0], [1000.0, 6.0], [2.5, 3.0])


@pytest.mark.parametrize(
    ("mean", "expected"),
    [("median", [2.5, 4.0]), ("trimmed", [(2 + 2.5 + 3) / 3, (3 + 4 + 5) / 3])],
)
def test_every_upload_has_the_centre_of_all(mean, expected):
    ups = taken(mean, *CHANGES)
    assert [up.sender for up in ups] == [0, 1, 2, 3, 4]
    for up in ups:
        assert torch.allclose(up.message.w["a"], 1 + torch.tensor(expected))
        assert up.message.beside.tolist() == [up.sender]
        assert up.samples == 10 + up.sender


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    ups = taken("median", [1.0, 0.0], [2.0, 0.0], [4.0, 0.0], [90.0, 0.0])
    assert torch.allclose(ups[0].message.w["a"], torch.tensor([4.0, 1.0]))


def test_changes_have_a_centre_also_where_clients_were_sent_different_models():
    sent = {
        0: Message({"a": torch.tensor([0.0])}, torch.zeros(1)),
        1: Message({"a": torch.tensor([50.0])}, torch.zeros(1)),
    }
    ups = [
        Received(c, 1, Message({"a": sent[c].w["a"] + change}, torch.zeros(1))) for c, change in ((0, 1.0), (1, 3.0))
    ]
    assert [float(up.message.w["a"]) for up in Taking("median").taken(ups, sent, 0)] == [2.0, 52.0]


def krum_scores(changes, hostile):
    points = np.array(changes)
    scores = []
    for one in points:
        others = sorted(float(((one - other) ** 2).sum()) for other in points)[1:]
        scores.append(sum(others[: len(points) - hostile - 2]))
    return scores


def test_krum_takes_the_uploads_that_lie_closest_together():
    changes = np.random.default_rng(3).normal(size=(9, 2)).tolist()
    changes[4], changes[7] = [40.0, 40.0], [-60.0, 10.0]
    order = np.argsort(krum_scores(changes, 2))
    (one,) = taken("krum", *changes)
    assert one.sender == order[0]
    many = taken("multi_krum", *changes)
    assert [up.sender for up in many] == sorted(order[:7].tolist())
    assert not {4, 7} & {up.sender for up in many}
    for up, plain in zip(many, uploads(*changes), strict=False):
        assert up.sender != plain.sender or torch.equal(up.message.w["a"], plain.message.w["a"])


def test_numbers_that_are_none_do_not_reach_the_centre():
    changes = [[1.0, 1.0], [math.nan, math.inf], [2.0, 2.0], [3.0, 3.0], [2.0, 2.0]]
    assert torch.allclose(taken("median", *changes)[0].message.w["a"], torch.tensor([3.0, 3.0]))
    assert 1 not in {up.sender for up in taken("multi_krum", *changes)}


def test_models_that_are_not_alike_have_no_mean():
    ups = [*uploads([1.0, 1.0]), Received(8, 1, Message({"a": torch.zeros(3)}, torch.zeros(1)))]
    sent = {0: SENT, 8: Message({"a": torch.zeros(3)}, torch.zeros(1))}
    with pytest.raises(ConfigError, match=r"uploads of clients 0 and 8 differ in w\[a\]: \(2,\) and \(3,\)"):
        Taking("median").taken(ups, sent, 0)
    with pytest.raises(ConfigError, match=r"holds no model that its sender was sent"):
        Taking("krum").taken(uploads([1.0, 1.0]), {0: None}, 0)


def test_the_sum_of_uploads_has_the_noise_of_the_server():
    size, n, deviation = 20_000, 4, 3.0
    sent = Message({"a": torch.zeros(size)}, torch.zeros(1))
    ups = [
        Received(client, 1, Message({"a": torch.full((size,), float(client))}, torch.zeros(1))) for client in range(n)
    ]
    after = Taking(deviation=deviation).taken(ups, dict.fromkeys(range(n), sent), 5)
    sums = sum(up.message.w["a"] for up in after) - sum(range(n))
    assert abs(float(sums.std()) - deviation) < 5 * deviation / math.sqrt(2 * size)
    assert abs(float(sums.mean())) < 5 * deviation / math.sqrt(size)
    assert all(up.message.beside.abs() > 0 for up in after)  # what was not sent is hidden too
    noises = [(up.message.w["a"] - up.sender).numpy() for up in after]
    assert np.abs(np.corrcoef(noises) - np.eye(n)).max() < 5 / math.sqrt(size)
