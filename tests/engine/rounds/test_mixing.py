"""What stale uploads are worth, and how they enter a state."""

from dataclasses import dataclass

import pytest
import torch

from strata.engine.errors import ConfigError
from strata.engine.method.length import Length
from strata.engine.method.messages import Received
from strata.engine.params import Params
from strata.engine.rounds.mixing import Mixing, rebased


def up(samples, staleness):
    return Received(0, samples, None, staleness=staleness)


def test_what_an_upload_is_worth_is_as_in_fedasync():
    assert [Mixing().worth(s) for s in (0, 5)] == [1, 1]
    assert [Mixing(staleness="polynomial", exponent=0.5).worth(s) for s in (0, 3, 8)] == [1, 1 / 2, 1 / 3]
    hinge = Mixing(staleness="hinge", exponent=10, grace=4)
    assert [hinge.worth(s) for s in (0, 4, 5, 6)] == [1, 1, 1 / 11, 1 / 21]


def test_models_count_by_what_they_are_worth_weighted_by_samples():
    mixing = Mixing(staleness="polynomial", share=0.5)
    # (10 · 1 + 30 · 1/2) / 40 = 5/8, of which a half
    assert mixing.share_of([up(10, 0), up(30, 3)]) == 0.5 * 5 / 8
    assert mixing.share_of([up(0, 0), up(0, 3)]) == 0.5 * 3 / 4  # of no samples at all: the plain mean


def test_fresh_uploads_count_for_exactly_the_whole():
    for staleness in ("constant", "polynomial", "hinge"):
        mixing = Mixing(staleness=staleness)
        assert mixing.share_of([up(n, 0) for n in (3, 7, 11, 13, 1_000_003)]) == 1.0


def test_where_changes_count_what_each_is_worth_is_in_the_upload_and_the_share_stays():
    assert Mixing(update="change", staleness="polynomial", share=0.3).share_of([up(10, 8)]) == 0.3


@dataclass(frozen=True)
class Down:
    w: Params
    bias: torch.Tensor
    length: Length


@dataclass(frozen=True)
class Up:
    w: Params
    bias: torch.Tensor
    accuracy: float


@dataclass(frozen=True)
class Part:
    body: Params


@dataclass(frozen=True)
class Own:
    found: torch.Tensor


def sent(base):
    return Down({"a": torch.full((2,), base), "b": torch.full((1,), base)}, torch.full((3,), base), Length(1))


def test_an_upload_is_moved_to_where_its_change_would_have_led_from_the_present_state():
    ended = Up({"a": torch.full((2,), 5.0), "b": torch.full((1,), 2.0)}, torch.full((3,), 7.0), 0.5)
    moved = rebased(ended, sent(1.0), sent(10.0), 0.25)
    # now + σ (up − then): 10 + 4/4, 10 + 1/4, 10 + 6/4
    assert moved.w["a"].tolist() == [11.0, 11.0]
    assert moved.w["b"].tolist() == [10.25]
    assert moved.bias.tolist() == [11.5] * 3
    assert moved.accuracy == 0.5
    assert ended.w["a"].tolist() == [5.0, 5.0]


def test_a_part_of_a_model_under_another_name_goes_back_to_the_only_one_that_has_it():
    moved = rebased(Part({"b": torch.full((1,), 2.0)}), sent(1.0), sent(10.0), 1.0)
    assert moved.body["b"].tolist() == [11.0]


def test_tensors_that_were_not_sent_stay_as_they_are():
    ended = Up({"a": torch.full((2,), 5.0), "c": torch.full((4,), 2.0)}, torch.arange(3), 0.5)
    moved = rebased(ended, sent(1.0), sent(10.0), 1.0)
    assert moved.w["c"] is ended.w["c"]
    assert moved.bias is ended.bias  # whole numbers have nothing between them
    assert moved.w["a"].tolist() == [14.0, 14.0]


def test_an_upload_without_anything_that_was_sent_is_refused():
    with pytest.raises(ConfigError, match=r"upload of Own \(found\) holds no model that its sender was sent"):
        rebased(Own(torch.ones(3)), sent(1.0), sent(2.0), 1.0)


def test_an_upload_without_tensors_has_nothing_to_move():
    @dataclass(frozen=True)
    class Empty:
        accuracy: float = 0.5

    empty = Empty()
    assert rebased(empty, sent(1.0), sent(2.0), 1.0) is empty
