"""What W&B's files hold: its messages, as ``wandb sync`` uploads them."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record


def messages(file: Path) -> Iterator[Record]:
    """Reads a LevelDB log: blocks of 32 KiB with parts of messages (1 whole, 2 first, 3 middle, 4 last)."""
    data, position, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:  # too small for a part: padding
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


class Logged:
    """What one ``.wandb`` file holds."""

    def __init__(self, file: Path) -> None:
        self.history: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.axes: dict[str, str] = {}
        self.artifacts: dict[str, set[str]] = {}
        self.run = self.exit_code = None
        for message in messages(file):
            self.run = message.run if message.HasField("run") else self.run
            self.config |= values(message.run.config.update) | values(message.config.update)
            self.summary |= values(message.summary.update)
            if message.HasField("history"):
                self.history.append(values(message.history.item) | {"step": message.history.step.num})
            if message.HasField("metric"):
                self.axes[message.metric.glob_name or message.metric.name] = message.metric.step_metric
            if message.HasField("request") and message.request.HasField("log_artifact"):
                artifact = message.request.log_artifact.artifact
                self.artifacts[artifact.name] = {entry.path for entry in artifact.manifest.contents}
            if message.HasField("artifact"):
                self.artifacts[message.artifact.name] = {entry.path for entry in message.artifact.manifest.contents}
            if message.HasField("exit"):
                self.exit_code = message.exit.exit_code


def logged(run_dir: Path) -> list[Logged]:
    """All parts of a run that were stored offline, in the order of their beginning."""
    files = sorted(run_dir.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.name)
    return [complete(file) for file in files]


def complete(file: Path) -> Logged:
    """What a file holds once W&B's process, which writes behind the run's back, has written the end of the run."""
    wandb.teardown()  # what otherwise happens when Python ends
    deadline = time.monotonic() + 10
    while (found := Logged(file)).exit_code is None:
        assert time.monotonic() < deadline, f"{file} has no end"
        time.sleep(0.02)
    return found
