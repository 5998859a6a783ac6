"""What every method owes the engine. A new file in ``algorithms/`` is tested here without touching anything."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from strata.cluster.conformance import whole_runs
from strata.cluster.conformance.examination import RUNS, STEPS, sentence
from strata.cluster.conformance.single_steps import makes_a_round
from strata.cluster.conformance.subject import Subject
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm, TieredAlgorithm
from strata.engine.method.find import load_method, method_names
from strata.engine.method.messages import ClientInfo
from tests.helpers.arithmetic.processor import are_rows_alike_beside_any
from tests.helpers.small import small_overrides

METHODS = method_names()
FOR_ALL = ("scaffold",)  # clients descend on everybody's loss, and their own, from which rounds begin, may rise
FALLING_BACK = {"fedtp": "batch norm", "perfedrlnas": "batch norm", "fedproto": "features are averaged"}
SLOW = ("fedtp", "perfedrlnas", "pfedme")  # half as many rounds say as much
LEARNT_COSTS = ("fedkd",)  # how many singular values are sent


@pytest.fixture(scope="module", params=METHODS)
def subject(request):
    rounds = 3 if request.param in SLOW else 6
    return Subject(request.param, (*small_overrides(request.param), f"rounds={rounds}"))


def test_there_are_methods_and_each_has_its_yaml():
    assert {"fedavg", "fedprox", "hsgd", "permfl"} <= set(METHODS)
    for name in METHODS:
        assert Path("algorithms", f"{name}.yaml").is_file(), f"algorithms/{name}.yaml is missing"
        assert load_config(name).algorithm == name


def test_it_is_flat_or_tiered(subject):
    assert isinstance(subject.world.algorithm, FlatAlgorithm | TieredAlgorithm)
    assert dataclasses.is_dataclass(type(subject.world.algorithm).Config)


def test_its_module_cites_its_source_and_lists_deviations(subject):
    text = sys.modules[type(subject.world.algorithm).__module__].__doc__
    # A preprint's or a paper's number, or the conference and its year.
    assert re.search(r"arXiv \d{4}\.\d{5}\b|doi 10\.\d{4,}/\w|[A-Z]{2}\w* (19|20)\d\d\b", text)
    assert "Deviations" in text or "Choices of ours" in text


@pytest.mark.parametrize("check", [makes_a_round, *STEPS], ids=lambda check: check.__name__)
def test_its_steps_are_what_the_engine_rests_on(subject, check):
    assert check(subject) == "", sentence(check)


def test_its_clients_train_on_their_own_data_better_and_better(subject):
    losses = [loss for loss in subject.whole.losses if loss is not None]  # there are rounds in which nobody trains
    if subject.source not in FOR_ALL:
        assert losses[-1] < losses[0], f"training loss went {losses}"


@pytest.mark.parametrize("check", RUNS, ids=lambda check: check.__name__)
def test_its_runs_are_what_the_engine_rests_on(subject, check):
    remark = check(subject)
    if check is whole_runs.comes_close_when_clients_are_trained_as_one:
        if not are_rows_alike_beside_any():  # then max pooling may choose otherwise among nearly equal values
            remark = re.sub("(; )?after a round [^;]* with one seed, and not with most others$", "", remark)
        expected = FALLING_BACK.get(subject.source)
        assert remark.startswith(f"some requests are answered one by one: {expected}") if expected else not remark
    else:
        assert bool(remark) == (check is whole_runs.costs_what_was_counted and subject.source in LEARNT_COSTS)


def test_infos_carry_what_agents_need(subject):
    info = subject.world.infos[0]
    assert isinstance(info, ClientInfo)
    assert info.label_counts.sum() == info.train_samples
    assert isinstance(info.label_counts, np.ndarray)
    assert info.flops_per_s > 0


def test_unknown_methods_are_named_with_the_closest():
    with pytest.raises(ConfigError, match="Did you mean permfl"):
        load_method("permlf")
