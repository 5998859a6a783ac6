"""Settings: declared with bounds, overlaid with what people said, checked."""

from dataclasses import dataclass, fields
from typing import Literal

import pytest

from strata.engine.errors import ConfigError
from strata.engine.options import Validated, allowed_range, check, option, overlaid


@dataclass(frozen=True)
class Inner(Validated):
    low: float = option(0.0, "lower end", ge=0)
    high: float = option(1.0, "upper end", gt=0, le=10)

    def validate(self, path):
        if self.low > self.high:
            raise ConfigError(f"{path}low={self.low:g}: expected ≤ {path}high={self.high:g}.")


@dataclass(frozen=True)
class Outer:
    count: int = option(3, "how many", ge=1)
    name: str = option("x", "name")
    kind: Literal["one", "two"] = option("one", "kind")
    sizes: list[int] = option([1, 2], "sizes", gt=0)
    shares: dict[str, float] = option({"a": 1.0}, "shares")
    pair: tuple[int, ...] = option((), "numbers")
    switch: bool = option(False, "on or off", ge=1)
    inner: Inner = option(Inner(), "both ends")
    parts: dict[str, Inner] = option({}, "ends by name")


def refused(said, message):
    with pytest.raises(ConfigError) as caught:
        overlaid(Outer(), said, "my.yaml")
    assert message in str(caught.value)


def test_a_default_that_can_be_changed_is_each_instances_own():
    one, other = Outer(), Outer()
    one.sizes.append(3)
    one.shares["b"] = 2.0
    assert (other.sizes, other.shares) == ([1, 2], {"a": 1.0})
    assert (Outer().sizes, Outer().shares) == ([1, 2], {"a": 1.0})


def test_a_range_is_written_as_people_write_it():
    ranges = {field.name: allowed_range(field) for kind in (Inner, Outer) for field in fields(kind)}
    assert (ranges["high"], ranges["low"], ranges["name"]) == ("> 0 and ≤ 10", "≥ 0", "")


def test_what_was_said_wins_and_the_rest_stays():
    before = Outer()
    after = overlaid(before, {"count": 5, "inner": {"high": 2}, "pair": [4, 5], "shares": {"b": 1}}, "here")
    assert after == Outer(count=5, inner=Inner(high=2.0), pair=(4, 5), shares={"b": 1.0})
    assert type(after.inner.high) is float
    assert before == Outer()


def test_parts_by_name_begin_with_their_defaults():
    after = overlaid(Outer(), {"parts": {"first": {"low": 0.5}, "second": {}}}, "here")
    assert after.parts == {"first": Inner(low=0.5), "second": Inner()}


def test_keys_that_do_not_exist_are_named_with_their_level():
    refused({"cuont": 1}, "cuont: no such key, in my.yaml. Did you mean count? Keys at the top: count, name, kind")
    refused({"inner": {"hihg": 1}}, "inner.hihg: no such key, in my.yaml. Did you mean high? Keys in inner: low, high.")
    refused({"parts": {"a": {"x": 1}}}, "parts.a.x: no such key, in my.yaml. Keys in parts.a: low, high.")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"count": "3"}, "count='3': expected a whole number ≥ 1, in my.yaml."),
        ({"count": True}, "count=True: expected a whole number ≥ 1"),
        ({"count": 2.5}, "count=2.5: expected a whole number"),
        ({"switch": 1}, "switch=1: expected true or false, in my.yaml."),
        ({"name": None}, "name=None: expected text, in my.yaml."),
        ({"kind": "three"}, "kind='three': expected one of one, two, in my.yaml."),
        ({"sizes": [1, "x"]}, "sizes.1='x': expected a whole number > 0"),
        ({"sizes": 3}, "sizes=3: expected a list"),
        ({"shares": {"b": "x"}}, "shares.b='x': expected a number"),
        ({"inner": 3}, "inner=3: expected keys of its own (low, high), in my.yaml."),
        ({"parts": {"a": 3}}, "parts.a=3: expected keys of its own (low, high), in my.yaml."),
        ({"name": "${x}"}, "name='${x}': expected a plain value"),
        ({"sizes": "???"}, "sizes='???': expected a plain value"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(said, message):
    refused(said, message)


def test_a_number_may_be_a_name():
    assert overlaid(Outer(), {"name": 2024}, "here").name == "2024"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Outer(count=0), "count=0 is out of range: expected ≥ 1."),
        (Outer(sizes=[1, 0]), "sizes=0 is out of range: expected > 0."),
        (Outer(inner=Inner(high=10.5)), "inner.high=10.5 is out of range: expected > 0 and ≤ 10."),
        (Outer(inner=Inner(low=float("nan"))), "inner.low=nan is out of range"),
        (Outer(inner=Inner(low=float("inf"))), "inner.low=inf is out of range"),
        (Outer(pair=(1, float("inf"))), "pair=inf is out of range: expected a number."),
        (Outer(inner=Inner(low=3.0, high=2.0)), "inner.low=3: expected ≤ inner.high=2."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_out_of_range_is_refused(config, message):
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert message in str(caught.value)


def test_bounds_are_met_exactly_and_switches_are_no_numbers():
    check(Outer(count=1, inner=Inner(low=0.0, high=10.0), switch=False))


def test_bounds_come_before_what_concerns_several_settings():
    with pytest.raises(ConfigError, match=r"inner\.high=11 is out of range"):
        check(Outer(inner=Inner(low=12.0, high=11.0)))
