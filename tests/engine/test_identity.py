"""What makes two runs one: their settings by name, the contents of their files, and not where these lie."""

import json

import pytest

from strata.engine.build import build_world
from strata.engine.config.load import load_config
from strata.engine.identity import identity
from strata.engine.models.spec import ModelSpec
from tests.helpers.small import small
from tests.helpers.worlds import LABELS, data, world


def identity_of(*words):
    config = small("permfl", *words)
    return identity(config, build_world(config))


def differing(one, other):
    return {key for key in one | other if one.get(key) != other.get(key)}


def test_a_setting_is_noted_by_its_key_and_comes_before_the_data_that_follow_from_it():
    one, other = identity_of(), identity_of("data.limit=500")
    assert differing(one, other) == {"data.limit", "data"}
    assert (one["data.limit"], other["data.limit"]) == ("600", "500")
    assert list(one)[-1] == "data"
    assert differing(one, identity_of("ray.num_cpus=1", "rounds=9", "checkpoint.every=3")) == set()


def test_the_form_in_which_linear_models_are_trained_enters_because_it_rounds_otherwise():
    primal = identity_of("training.batch_clients=8")
    assert differing(primal, identity_of("training.batch_clients=8", "training.linear=dual")) == {"training.linear"}
    assert "training.linear" not in primal


def test_a_setting_with_keys_of_its_own_is_noted_key_by_key():
    assert identity_of("delays.classes={laptop: 1}")["delays.classes.laptop"] == "1.0"


@pytest.mark.parametrize(
    ("key", "words", "contents", "others"),
    [
        (
            "partition.path",
            ["partition=file", "data.limit=0"],
            [list(range(60 * c, 60 * c + 60)) for c in range(8)],
            None,
        ),
        ("teams.formation.path", ["teams.formation=file"], [[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 2, 7], [3, 4, 5, 6]]),
    ],
)
def test_a_file_enters_by_its_contents_and_not_by_its_name(tmp_path, key, words, contents, others):
    def written(name, lists):
        path = tmp_path / name
        path.write_text(json.dumps(dict(enumerate(lists))))
        return identity_of(*words, f"{key}={path}")

    others = others or [*contents[1:], contents[0]]
    one = written("one.json", contents)
    assert differing(one, written("two.json", contents)) == set()
    assert differing(one, written("one.json", others)) == {"data"}


MODEL = ModelSpec("mclr", (2,), 3, ())


def of(*said, method="permfl", made=None):
    return identity(load_config(method, said), made or world())


@pytest.mark.parametrize(
    "said",
    [
        ["rounds=7"],
        ["seeds=[0,1]"],
        ["output=elsewhere"],
        ["runtime=inprocess"],
        ["clients_per_actor=3"],
        ["ray.num_cpus=2"],
        ["tracking.project=other"],
        ["checkpoint.every=1"],
        ["training.device=cpu"],
        ["server.num_cpus=1"],
        ["clients.num_cpus=2", "clients.num_gpus=0.5", "clients.classes.laptop.num_cpus=2"],
        ["teams.num_cpus=1", "teams.num_gpus=1"],
        ["delays.mode=sleep", "delays.sleep_scale=0.5"],
    ],
    ids=str,
)
def test_where_how_fast_and_how_far_a_run_is_computed_makes_it_no_other(said):
    assert of(*said) == of()


@pytest.mark.parametrize(
    "said",
    [
        ["seed=1"],
        ["method.gamma=1.9"],
        ["model=mlp"],
        ["data.limit=100"],
        ["partition.labels_per_client=3"],
        ["clients.participation=0.5"],
        ["teams.mode=deadline", "teams.deadline_s=5"],
        ["delays.dropout=0.5"],
        ["evaluation.every=2"],
        ["agents.policy=uniform"],
    ],
    ids=str,
)
def test_whatever_enters_a_result_makes_it_another(said):
    assert of(*said) != of()


def test_data_enter_as_they_are():
    assert of(made=world(data=data(y=(LABELS + 1) % 3))) != of()
    assert of(made=world()) == of()


def test_another_method_with_the_same_settings_is_another_run():
    assert of(method="fedavg")["algorithm"] != of(method="fedprox")["algorithm"]
