"""Reads back from the disk what was logged: W&B's messages, out of the files that ``wandb sync`` uploads."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from PIL import Image

from strata.cluster.sinks import weights_and_biases as tracking
from strata.cluster.sinks.jsonl import JsonlSink
from strata.cluster.sinks.metrics import flatten, metrics_of
from strata.cluster.sinks.sink import RunInfo
from strata.cluster.sinks.weights_and_biases import ComparisonSink, WandbSink, has_key, stored_id
from strata.engine.config.tracking import TrackingConfig
from tests.helpers.records import CONFIG, SUMMARY, record, run_info
from tests.helpers.tracking.wandb_files import complete, logged

NOWHERE = "http://127.0.0.1:9"  # the discard port, where nothing listens
KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without a key or settings of their own, and a W&B session that has not read the real one's."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    wandb.teardown()
    yield
    wandb.teardown()


def drive(sink: WandbSink, run: RunInfo, rounds: range, exit_code: int = 0) -> None:
    sink.start(run)
    for number in rounds:
        sink.round(record(number, evaluated=number % 2 == 0))
    sink.finish(SUMMARY, exit_code)


def test_an_offline_run_holds_everything(tmp_path: Path) -> None:
    config = TrackingConfig(project="study", group="seeds", name="seven", tags=["a", "b"])
    drive(WandbSink(config), run_info(tmp_path), range(1, 5))
    (found,) = logged(tmp_path)
    assert (found.run.project, found.run.run_group, found.run.display_name) == ("study", "seeds", "seven")
    assert list(found.run.tags) == ["a", "b"]
    assert found.run.run_id == stored_id(tmp_path)
    assert {key: found.config[key] for key in CONFIG} == CONFIG
    assert found.config["seed"] == 7
    assert found.config["versions"] == {"python": "3.11.0", "torch": "2.6.0"}
    assert [row["step"] for row in found.history] == [1, 2, 3, 4]
    for row, number in zip(found.history, range(1, 5), strict=True):
        expected = metrics_of(record(number, evaluated=number % 2 == 0))
        assert {name: row[name] for name in expected} == expected
    assert found.summary["final/last/PM"] == 0.8125
    assert found.summary["final/bytes"] == 1_234_000
    assert found.exit_code == 0


def test_metrics_have_an_axis_of_rounds_or_of_virtual_time(tmp_path: Path) -> None:
    drive(WandbSink(TrackingConfig(wandb="offline")), run_info(tmp_path), range(1, 2))
    (found,) = logged(tmp_path)
    assert found.axes["accuracy/*"] == "round"
    assert found.axes["accuracy_by_time/*"] == "virtual_s"
    groups = {f"{name.split('/')[0]}/*" for name in metrics_of(record(2)) if "/" in name}
    assert groups <= set(found.axes)


def test_metrics_are_grouped_by_tier_and_leave_out_what_is_no_number() -> None:
    metrics = metrics_of(record(3, train_loss=None, metrics={"gain": float("nan"), "teams": 2}))
    assert metrics["accuracy/PM"] == metrics["accuracy_by_time/PM"] == 0.75
    assert metrics["fairness/PM_worst_decile"] == 0.375
    assert (metrics["client/bytes_up"], metrics["team/bytes_up"]) == (1_500_000, 500_000)
    assert (metrics["virtual_s"], metrics["client/straggling_s"], metrics["method/teams"]) == (2880.0, 12.5, 2)
    assert "global/train_loss" not in metrics
    assert "method/gain" not in metrics


def test_tables_of_clients_are_stored_when_asked_for(tmp_path: Path) -> None:
    sink = WandbSink(TrackingConfig(per_client=True))
    sink.start(run_info(tmp_path))
    sink.round(record(3))
    sink.finish({}, 0)
    logged(tmp_path)
    files = sorted(tmp_path.glob("wandb/offline-run-*/files/media/table/clients/*.table.json"))
    accuracy, calls = [json.loads(file.read_text()) for file in files]
    assert accuracy == {"columns": ["client", "PM", "GM"], "data": [[0, 0.75, 0.5], [10, 0.375, 0.25]]}
    assert [dict(zip(calls["columns"], row, strict=True))["status"] for row in calls["data"]] == ["ok", "late"]


def test_a_comparison_is_a_run_with_a_table_and_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "straggling.png")
    config = TrackingConfig(wandb="offline", project="study", group="seeds")
    rows = [["permfl", "81.25 %"], ["fedavg", "–"]]
    pictures = {"straggling": tmp_path / "straggling.png"}
    more = {"targets": (["method", "bytes"], [["permfl", "250 B"]])}
    sink = ComparisonSink(config, ["method", "PM"], rows, pictures, more=more)
    sink.start(run_info(tmp_path))
    sink.finish({"permfl": {"PM": 0.8125}}, 0)
    (found,) = logged(tmp_path)
    assert (found.run.project, found.run.run_group, found.run.job_type) == ("study", "seeds", "compare")
    (file,) = tmp_path.glob("wandb/offline-run-*/files/media/table/comparison/table_*.table.json")
    assert json.loads(file.read_text()) == {"columns": ["method", "PM"], "data": rows}
    (file,) = tmp_path.glob("wandb/offline-run-*/files/media/table/comparison/targets_*.table.json")
    assert json.loads(file.read_text()) == {"columns": ["method", "bytes"], "data": [["permfl", "250 B"]]}
    (picture,) = tmp_path.glob("wandb/offline-run-*/files/media/images/comparison/straggling*.png")
    assert picture.read_bytes() == (tmp_path / "straggling.png").read_bytes()
    assert found.summary["final/permfl/PM"] == 0.8125
    assert found.exit_code == 0


def test_a_disabled_comparison_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of wandb raises from here on
    drive(ComparisonSink(TrackingConfig(wandb="disabled"), ["method"], [], {}), run_info(tmp_path), range(0))
    assert list(tmp_path.iterdir()) == []


def write_metrics(run_dir: Path, rounds: range) -> None:
    sink = JsonlSink()
    sink.start(run_info(run_dir))
    for number in rounds:
        sink.round(record(number, evaluated=number % 2 == 0))
    sink.finish({}, 0)


def test_an_offline_run_that_was_killed_is_whole_once_it_is_resumed(tmp_path: Path) -> None:
    """Whatever a killed part holds or has lost: the rounds before the resume come from the run's own file."""
    write_metrics(tmp_path, range(1, 5))
    killed = WandbSink(TrackingConfig())
    killed.start(run_info(tmp_path))
    killed.round(record(1))
    (part,) = tmp_path.glob("wandb/offline-run-*")
    wandb.teardown()
    time.sleep(1.1)  # W&B names the folder of each part by the second
    drive(WandbSink(TrackingConfig()), run_info(tmp_path, resumed_round=4), range(5, 7))
    assert not part.exists()
    (found,) = logged(tmp_path)
    assert found.run.run_id == (tmp_path / "wandb_id").read_text().strip()
    assert [row["step"] for row in found.history] == [1, 2, 3, 4, 5, 6]
    expected = metrics_of(record(4, evaluated=True))
    assert {name: found.history[3][name] for name in expected} == expected


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again_in_one_part(tmp_path: Path) -> None:
    killed = WandbSink(TrackingConfig())
    killed.start(run_info(tmp_path))
    killed.round(record(1))
    wandb.teardown()
    time.sleep(1.1)  # W&B names the folder of each part by the second
    drive(WandbSink(TrackingConfig()), run_info(tmp_path), range(1, 3))
    (found,) = logged(tmp_path)
    assert [row["step"] for row in found.history] == [1, 2]


@pytest.mark.parametrize(
    "uploaded", ["run-20260101_000000-{id}/x", "offline-run-20260101_000000-{id}/run.wandb.synced"]
)
def test_what_was_uploaded_before_is_not_logged_again(tmp_path: Path, uploaded: str) -> None:
    write_metrics(tmp_path, range(1, 5))
    there = tmp_path / "wandb" / uploaded.format(id=stored_id(tmp_path))
    there.parent.mkdir(parents=True)
    there.touch()
    drive(WandbSink(TrackingConfig()), run_info(tmp_path, resumed_round=4), range(5, 7))
    assert there.exists()
    assert [row["step"] for row in logged(tmp_path)[-1].history] == [5, 6]


def test_checkpoints_and_agents_are_stored_where_that_is_asked_for(tmp_path: Path) -> None:
    state = tmp_path / "checkpoints" / "round-000002" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"state": {"fields": {"clients": {"fields": {"file": "clients-1.db"}}}}}')
    (tmp_path / "checkpoints" / "clients-1.db").write_bytes(b"rows")
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "weights.safetensors").write_bytes(b"weights")
    drive(WandbSink(TrackingConfig(wandb="offline", artifacts=True)), run_info(tmp_path), range(1, 3))
    (found,) = logged(tmp_path)
    assert found.artifacts == {
        f"checkpoint-{stored_id(tmp_path)}": {"clients-1.db", "round-000002/state.json"},
        f"agents-{stored_id(tmp_path)}": {"agents/weights.safetensors"},
    }


def test_ids_differ_by_directory_and_move_with_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = stored_id(tmp_path / "a")
    assert one != stored_id(tmp_path / "b")
    assert stored_id((tmp_path / "a").rename(tmp_path / "c")) == one


class Service(ThreadingHTTPServer):
    """A W&B server that accepts a run while ``answering``, and otherwise keeps its callers waiting."""

    daemon_threads = True
    answering = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.closing = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.server.answering:
            self.server.closing.wait()
            return
        bucket = {"id": "x", "name": "x", "displayName": "x", "project": {"name": "p", "entity": {"name": "e"}}}
        body = json.dumps({"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *values: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "never answers"])
def test_an_unreachable_service_neither_stops_nor_delays_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service, silent: bool
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{service.server_port}" if silent else NOWHERE)
    monkeypatch.setattr(tracking, "INIT_TIMEOUT_S", 1.0)
    said: list[str] = []
    started = time.monotonic()
    drive(WandbSink(TrackingConfig(wandb="online"), said.append), run_info(tmp_path), range(1, 4))
    assert time.monotonic() - started < 6.0  # 1 s of waiting; the rest is the start of W&B's process, twice
    (text,) = said
    assert text.startswith("W&B cannot be reached, so this run is stored offline:")
    (found,) = logged(tmp_path)
    assert [row["client/bytes_up"] for row in found.history] == [1_500_000] * 3
    assert found.config["algorithm"] == "permfl"


def test_a_service_that_falls_silent_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{service.server_port}")
    monkeypatch.setattr(tracking, "FINISH_TIMEOUT_S", 1.0)
    service.answering = True
    said: list[str] = []
    sink = WandbSink(TrackingConfig(wandb="online"), said.append)
    sink.start(run_info(tmp_path))
    assert said == []
    service.answering = False
    started = time.monotonic()
    for number in range(1, 201):
        sink.round(record(number))
    assert time.monotonic() - started < 2.0  # 200 rounds were handed over, none was waited for
    sink.finish(SUMMARY, 0)
    assert time.monotonic() - started < 6.0
    (file,) = tmp_path.glob("wandb/run-*/*.wandb")  # an online run, kept on the disk for `wandb sync`
    assert len(complete(file).history) == 200


def test_without_a_key_online_says_that_it_stays_offline(tmp_path: Path) -> None:
    said: list[str] = []
    drive(WandbSink(TrackingConfig(wandb="online"), said.append), run_info(tmp_path), range(1, 2))
    assert said == ["W&B: no key was found (wandb login, or WANDB_API_KEY), so this run is stored offline."]
    assert len(logged(tmp_path)) == 1


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_auto_respects_the_mode_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)
    said: list[str] = []
    drive(WandbSink(TrackingConfig(), said.append), run_info(tmp_path), range(1, 2))
    assert said == []  # nobody tried to reach the service
    assert len(logged(tmp_path)) == (mode == "offline")


def test_disabled_imports_nothing_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of wandb raises from here on
    drive(WandbSink(TrackingConfig(wandb="disabled")), run_info(tmp_path), range(1, 2))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ImportError):
        WandbSink(TrackingConfig(wandb="offline")).start(run_info(tmp_path))


def test_a_key_is_found_where_wandb_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = "https://api.wandb.ai"
    assert not has_key(host)
    assert has_key(host, KEY)
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    (tmp_path / "home" / ".netrc").chmod(0o600)
    assert has_key(host)
    assert not has_key("https://wandb.example.org")  # a key of another server
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_key("https://wandb.example.org")


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}, "x/") == {"x/a/b": 1, "x/a/c/d": 2, "x/e": 3}
