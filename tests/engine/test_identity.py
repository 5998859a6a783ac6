"""What makes two runs one: their settings by name, the contents of their files, and not where these lie."""

import json

import pytest

from strata.engine.build import build_world
from strata.engine.identity import identity
from tests.helpers.small import small


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


def test_a_setting_with_keys_of_its_own_is_noted_key_by_key():
    assert identity_of("delays.classes={laptop: 1}")["delays.classes.laptop"] == "1.0"


@pytest.mark.parametrize(
    ("key", "words", "contents", "others"),
    [
        ("partition.path", ["partition=file"], [list(range(60 * c, 60 * c + 60)) for c in range(8)], None),
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
