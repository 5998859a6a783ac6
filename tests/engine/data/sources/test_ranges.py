"""One rule for ranges: what reaches a model follows from the values, whatever type they are stored in."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from strata.engine.data.config import DataConfig, FormationConfig, PartitionConfig
from strata.engine.data.federated import build
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError, StrataWarning
from strata.engine.training.batches import Rows

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 1, 4, 4), dtype=np.uint8)
PIXELS[0, 0, 0, :2] = 0, 255
LABELS = np.arange(12) % 3


def fetched(dataset):
    """All inputs as they reach a model."""
    return Rows(dataset, torch.device("cpu")).fetch(np.arange(len(dataset.y)))[0].numpy()


def written(tmp_path, x, **options):
    np.savez(tmp_path / "set.npz", X=x, y=np.arange(len(x)) % 3)
    return load(DataConfig(name=str(tmp_path / "set.npz"), **options), 1, 0)


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "i8", "f4", "f8", "unit"])
def test_a_picture_trains_alike_whatever_type_it_is_stored_in(tmp_path, kind):
    stored = PIXELS / np.float32(255) if kind == "unit" else PIXELS.astype(kind)
    found = fetched(written(tmp_path, stored))
    assert found.dtype == np.float32
    # 0 becomes -1, 255 becomes 1: in float32, one operation after the other.
    assert np.array_equal(found, (PIXELS.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5))


def test_arrays_on_the_disk_follow_the_rule_and_stay_there(tmp_path):
    for kind in ("u1", "i8", "f4"):
        folder = tmp_path / kind
        folder.mkdir()
        np.save(folder / "X.npy", PIXELS.astype(kind))
        np.save(folder / "y.npy", LABELS)
        found = load(DataConfig(name=str(folder)), 1, 0)
        assert isinstance(found.x, np.memmap)
        assert (found.value_range, found.x.dtype) == ((0.0, 255.0), np.dtype(kind))
        assert fetched(found).min() == -1
        assert fetched(found).max() == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 1)),
        (0.1, 0.2, (0, 1)),
        (0, 128, (0, 255)),
        (3, 255, (0, 255)),
        (0, 256, (0, 1023)),
        (0, 4095, (0, 4095)),
        (0, 4096, (0, 16383)),
        (1000, 60000, (0, 65535)),
        (0, 65536, None),
        (0, 16, None),
        (-1, 1, None),
        (-2.1, 2.6, None),
        (-1000, 2000, None),
    ],
)
def test_pictures_have_the_smallest_usual_range_that_holds_them(tmp_path, low, high, expected):
    x = np.full((3, 1, 2, 2), low, np.float32)
    x[1, 0, 0, 0] = high
    assert written(tmp_path, x).value_range == expected


def test_tables_and_series_stay_as_they_are(tmp_path):
    for shape in ((12, 5), (12, 2, 5)):
        x = RNG.random(shape).astype(np.float32)
        assert np.array_equal(fetched(written(tmp_path, x)), x)
    whole = RNG.integers(-5, 9, (12, 7))
    assert np.array_equal(fetched(written(tmp_path, whole)), whole.astype(np.float32))


def test_a_range_that_is_asked_for_holds_for_every_shape_and_type(tmp_path):
    halves = RNG.integers(0, 17, (12, 9))  # would be token ids otherwise
    halves[0, :2] = 0, 16
    for kind in ("u1", "i8", "f4"):
        found = written(tmp_path, halves.astype(kind), range="0..16")
        assert found.vocabulary == 0
        assert np.array_equal(fetched(found), (halves / 16 - 0.5) / 0.5)
        plain = written(tmp_path, halves.astype(kind), range="none")
        assert np.array_equal(fetched(plain), halves.astype(np.float32))
    assert written(tmp_path, halves).vocabulary == 17
    assert np.array_equal(fetched(written(tmp_path, halves)), halves)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0..100", r"inputs lie in 0\.\.255, outside data\.range=0\.\.100\. Set data\.range=0\.\.255"),
        ("5", r"data\.range='5': expected auto, none, or LOW\.\.HIGH"),
        ("1..0", r"data\.range='1\.\.0': expected"),
        ("0...1", "expected auto"),
    ],
)
def test_ranges_that_are_none_or_do_not_fit_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        written(tmp_path, PIXELS, range=text)


def test_a_range_of_what_has_none_is_refused(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0, 3.0], "t": ["b c", "c", "d"], "label": [0, 1, 0]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    name = str(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"data.range=0..9: inputs of .*t.csv are scaled already"):
        load(DataConfig(name=name, inputs="a", range="0..9"), 1, 0)
    with pytest.raises(DataError, match=r"inputs of .*t.csv are token ids"):
        load(DataConfig(name=name, text="t", range="0..9"), 1, 0)
    with pytest.raises(DataError, match=r"inputs of synthetic are scaled already"):
        load(DataConfig(name="synthetic", range="0..9"), 3, 0)


def test_the_range_is_said(tmp_path):
    said = written(tmp_path, PIXELS.astype(np.float32)).remarks
    assert said.notes == ("inputs: float32 1×4×4, values 0..255, 0 becomes -1 and 255 becomes 1 (data.range)",)
    assert not said.cautions
    assert written(tmp_path, RNG.integers(0, 9, (12, 5))).remarks.notes[0].startswith("inputs: rows of 5 token ids")


@pytest.mark.parametrize(
    ("x", "warning"),
    [
        (np.arange(60).reshape(12, 5).astype("f4") * 10, r"lie in 0\.\.590 and reach the model as they are"),
        (np.arange(48).reshape(12, 1, 2, 2).astype("i8"), r"lie in 0\.\.47 and reach .* data\.range=0\.\.47"),
        ((np.arange(48).reshape(12, 1, 2, 2) % 2).astype("u1"), r"uint8 lie in 0\.\.1 and are read as 0\.\.255"),
    ],
)
def test_a_run_is_warned_of_ranges_that_mislead_unless_they_are_set(tmp_path, x, warning):
    np.savez(tmp_path / "set.npz", X=x, y=LABELS)
    config = DataConfig(name=str(tmp_path / "set.npz"))
    dealt = PartitionConfig("iid", min_samples=2)
    with pytest.warns(StrataWarning, match=warning):
        build(config, dealt, FormationConfig(), 2, 0, 0)
    asked = DataConfig(name=config.name, range="none")
    assert len(build(asked, dealt, FormationConfig(), 2, 0, 0).clients) == 2  # warnings are errors


def test_matrices_in_tables_follow_the_rule(tmp_path):
    rows = [{"x": PIXELS[i].tolist(), "label": int(LABELS[i])} for i in range(12)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        found = load(DataConfig(name=str(tmp_path / name)), 1, 0)
        assert found.input_shape == (1, 4, 4)
        assert np.array_equal(found.x, PIXELS)
        assert found.value_range == (0, 255)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_pictures_of_sixteen_bits_keep_them(tmp_path):
    deep = RNG.integers(1000, 60001, (2, 4, 4), dtype=np.uint16)
    deep[0, 0, :2] = 1000, 60000
    for name, array in zip(("a/1.png", "b/1.png"), deep, strict=True):
        save(tmp_path / name, array)
    found = load(DataConfig(name=str(tmp_path)), 1, 0)
    assert np.array_equal(found.x[:, 0], deep)
    assert found.value_range == (0, 65535)
    save(tmp_path / "b/2.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"2\.png has 8 bits a pixel, .*1\.png 16 bits or more\. Convert"):
        load(DataConfig(name=str(tmp_path)), 1, 0)


def test_pictures_of_fractions_keep_them(tmp_path):
    parts = RNG.random((2, 4, 4)).astype(np.float32)
    for name, array in zip(("a/1.tif", "b/1.tif"), parts, strict=True):
        save(tmp_path / name, array)
    found = load(DataConfig(name=str(tmp_path)), 1, 0)
    assert np.array_equal(found.x[:, 0], parts)
    assert found.value_range == (0, 1)
