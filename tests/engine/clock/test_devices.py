"""Device classes and traces: what is read, and how a malformed file is named."""

import math
from pathlib import Path

import pytest
import yaml

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.devices import SHIPPED, device_classes
from strata.engine.clock.profiles import client_profiles
from strata.engine.errors import ConfigError, DataError
from strata.engine.options import check

HEADER = "client,flops_per_s,down_bytes_per_s,up_bytes_per_s,latency_s"


def write(folder: Path, *lines: str, header: str = HEADER) -> str:
    path = folder / "trace.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf8")
    return str(path)


def test_trace_rows_are_used_again_for_more_clients(tmp_path: Path) -> None:
    path = write(tmp_path, "0,1e9,1e6,5e5,0.1", "1,2e9,inf,1e6,0.0")
    profiles = client_profiles(DelayConfig(name="trace", trace=path, jitter="none"), 5, 0)
    assert [profile.flops_per_s for profile in profiles] == [1e9, 2e9, 1e9, 2e9, 1e9]
    first, second = profiles[:2]
    assert (first.down_bytes_per_s, first.up_bytes_per_s, first.latency_s) == (1e6, 5e5, 0.1)
    assert (first.availability, first.dropout) == (1.0, 0.0)
    assert second.down_bytes_per_s == math.inf


def test_trace_is_ordered_by_client_and_reads_the_optional_columns(tmp_path: Path) -> None:
    header = f"{HEADER},availability,dropout,device"
    path = write(tmp_path, "7,1e9,1e6,1e6,0.1,0.5,0.2,tractor", "", "3,2e9,1e6,1e6,0.1,,,", header=header)
    first, second = client_profiles(DelayConfig(name="trace", trace=path), 2, 0)
    assert (first.flops_per_s, first.availability, first.dropout) == (2e9, 1.0, 0.0)
    assert (second.device, second.availability, second.dropout) == ("tractor", 0.5, 0.2)
    forced = client_profiles(DelayConfig(name="trace", trace=path, availability=1.0, dropout=0.0), 2, 0)[1]
    assert (forced.availability, forced.dropout) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,fast,1e6,1e6,0.1", r"line 3: flops_per_s is 'fast', expected a number > 0"),
        ("1,1e9,0,1e6,0.1", r"line 3: down_bytes_per_s is '0', expected a number > 0"),
        ("1,1e9,1e6,1e6,-1", r"line 3: latency_s is '-1', expected seconds ≥ 0"),
        ("1,1e9,1e6,nan,0.1", r"line 3: up_bytes_per_s is 'nan'"),
        ("1,,1e6,1e6,0.1", r"line 3: flops_per_s missing"),
        ("1,1e9,1e6", r"line 3: expected 5 cells .* found 3"),
        ("one,1e9,1e6,1e6,0.1", r"line 3: client is 'one', expected a whole number"),
        ("0,1e9,1e6,1e6,0.1", r"line 3: client 0 was given before"),
    ],
)
def test_malformed_trace_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, "0,1e9,1e6,1e6,0.1", line)
    with pytest.raises(DataError, match=message):
        client_profiles(DelayConfig(name="trace", trace=path), 2, 0)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("client,flops_per_s,down_bytes_per_s,up_bytes_per_s", "missing: latency_s"),
        (f"{HEADER},droput", "unknown or repeated: droput"),
    ],
)
def test_trace_with_wrong_columns(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"line 1: expected the columns .*{message}"):
        client_profiles(DelayConfig(name="trace", trace=write(tmp_path, header=header)), 2, 0)


def test_trace_that_is_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        client_profiles(DelayConfig(name="trace", trace=str(tmp_path / "none.csv")), 2, 0)
    with pytest.raises(DataError, match="found none"):
        client_profiles(DelayConfig(name="trace", trace=write(tmp_path)), 2, 0)


def test_every_shipped_class_is_plausible_and_has_a_source() -> None:
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf8"))
    assert 8 <= len(shipped) <= 12
    profiles = client_profiles(DelayConfig(name="classes", classes=dict.fromkeys(shipped, 1.0)), len(shipped), 0)
    assert {profile.device for profile in profiles} == set(shipped)
    for profile in profiles:
        assert len(shipped[profile.device]["source"]) > 20
        assert 1e8 < profile.flops_per_s < 1e14
        assert 1e4 < profile.up_bytes_per_s <= profile.down_bytes_per_s * 2 < 1e9
        assert 0 < profile.latency_s < 1


def test_what_ships_is_nobodys_to_change() -> None:
    device_classes("").clear()
    assert len(device_classes("")) >= 8


def write_devices(folder: Path, text: str) -> DelayConfig:
    path = folder / "devices.yaml"
    path.write_text(text, encoding="utf8")
    return DelayConfig(name="classes", classes={"robot": 1.0}, devices=str(path))


def test_own_device_classes(tmp_path: Path) -> None:
    config = write_devices(
        tmp_path, "robot: {flops_per_s: 1e9, down_bytes_per_s: .inf, up_bytes_per_s: 2000, latency_s: 0, dropout: 0.5}"
    )
    check(config, "delays.")
    profile = client_profiles(config, 1, 0)[0]
    assert (profile.device, profile.flops_per_s, profile.down_bytes_per_s) == ("robot", 1e9, math.inf)
    assert (profile.availability, profile.dropout) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("robot: {flops_per_s: 1, down_bytes_per_s: 1, up_bytes_per_s: 1}", "robot: latency_s missing"),
        (
            "robot: {flops_per_s: 1, down_bytes_per_s: 1, up_bytes_per_s: 1, latency_s: 0, speed: 3}",
            "robot: unknown: speed; expected flops_per_s",
        ),
        (
            "robot: {flops_per_s: true, down_bytes_per_s: 1, up_bytes_per_s: 1, latency_s: 0}",
            "robot: flops_per_s is True, expected a number > 0",
        ),
        (
            "robot: {flops_per_s: 1, down_bytes_per_s: 1, up_bytes_per_s: 1, latency_s: 0, availability: 2}",
            "robot: availability is 2, expected a probability",
        ),
        ("robot: 3", "expected names of device classes"),
        ("[robot]", "expected names of device classes"),
        ("robot: {", "not valid YAML"),
    ],
)
def test_malformed_device_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(write_devices(tmp_path, text), "delays.")
