"""Sinks that write files which other programs read: CSV, TensorBoard."""

import struct

import pandas as pd
from tensorboardX.proto.event_pb2 import Event

from strata.cluster.cli import main
from strata.cluster.sinks.jsonl import read_metrics
from tests.helpers.small import small_overrides


def scalars(folder):
    """Values by round and name, of all event files of a folder: records of length, checksum, event, checksum."""
    found = {}
    for path in sorted(folder.iterdir()):
        rest = path.read_bytes()
        while rest:
            (length,) = struct.unpack("<Q", rest[:8])
            event = Event.FromString(rest[12 : 12 + length])
            rest = rest[16 + length :]
            found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
    return found


def test_a_run_is_written_as_csv_and_for_tensorboard(tmp_path):
    words = small_overrides("fedavg", "rounds=2", "evaluation.every=2", f"output={tmp_path}")
    assert main(["run", "fedavg", *words, "tracking.sinks=[csv,tensorboard]"]) == 0
    (run_dir,) = tmp_path.iterdir()
    rounds = list(read_metrics(run_dir / "metrics.jsonl"))
    table = pd.read_csv(run_dir / "metrics.csv", index_col="round")
    assert table["virtual_s"].tolist() == [one["virtual_s"] for one in rounds]
    assert table["GM.accuracy"].isna().tolist() == [True, False]
    found = scalars(run_dir / "tensorboard")
    assert found[2, "accuracy/GM"] == pd.Series([rounds[1]["scores"]["GM"]["accuracy"]], dtype="float32")[0]
    assert (1, "accuracy/GM") not in found
    assert {step for step, name in found if name == "client/bytes_up"} == {1, 2}
