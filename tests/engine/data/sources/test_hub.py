import builtins
import sys

import numpy as np
import pandas as pd
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def config(path, tmp_path, **options):
    return DataConfig(name=f"hub:{path}", root=str(tmp_path / "root"), **options)


def test_local_parquet_and_jsonl_go_through_the_same_path(tmp_path):
    table = pd.DataFrame(
        {"a": np.arange(30.0), "kind": ["u", "v", "w"] * 10, "who": ["x", "y"] * 15, "label": [0, 2] * 15}
    )
    table.to_parquet(tmp_path / "t.parquet")
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    sets = [load(config(tmp_path / name, tmp_path, client_column="who"), 1, 0) for name in ("t.parquet", "t.jsonl")]
    direct = load(DataConfig(name=str(tmp_path / "t.parquet"), client_column="who"), 1, 0)
    for loaded in sets:
        assert np.array_equal(loaded.x, direct.x)
        assert np.array_equal(loaded.y, direct.y)
        assert loaded.natural.tolist() == ["x", "y"] * 15


def test_images_with_class_names_and_a_test_file(tmp_path):
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "coarse": datasets.Value("int64")}
    )
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    for name, rows in (("train", range(4)), ("test", range(4, 6))):
        from PIL import Image

        part = {
            "img": [Image.fromarray(pixels[row]) for row in rows],
            "label": [row % 2 for row in rows],
            "coarse": [0 for _ in rows],
        }
        datasets.Dataset.from_dict(part, features=features).to_parquet(tmp_path / f"{name}.parquet")
    loaded = load(config(tmp_path / "train.parquet", tmp_path), 1, 0)
    assert loaded.x.dtype == np.uint8
    assert np.array_equal(loaded.x, pixels.transpose(0, 3, 1, 2))
    assert loaded.y.tolist() == [0, 1, 0, 1, 0, 1]
    assert loaded.class_names == ("cat", "dog")
    assert loaded.natural_test.tolist() == [False] * 4 + [True] * 2


def test_a_wrong_column_lists_the_columns(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0], "fine_label": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"has no column 'label'. Set data.target to one of: a, fine_label"):
        load(config(tmp_path / "t.parquet", tmp_path), 1, 0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("owner/set", ("owner/set",)), ("owner/set/split a", ("owner/set", "split a")), ("mnist", ("mnist",))],
)
def test_names_on_the_hub(tmp_path, monkeypatch, name, arguments):
    asked = []

    def fake(*args, cache_dir):
        asked.append(args)
        table = datasets.Dataset.from_dict({"a": [0.0, 1.0, 2.0], "label": [0, 1, 1]})
        return {"validation": table, "train": table}

    monkeypatch.setattr(datasets, "load_dataset", fake)
    loaded = load(config(name, tmp_path), 1, 0)
    assert asked == [arguments]
    assert loaded.natural_test.tolist() == [False] * 3 + [True] * 3


def test_a_set_that_cannot_be_reached(tmp_path, monkeypatch):
    def fail(*args, cache_dir):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"hub:owner/set cannot be loaded \(ConnectionError: no route\).*local folder"):
        load(config("owner/set", tmp_path), 1, 0)


def test_without_the_extra_the_error_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "datasets")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match=r'pip install "strata-fl\[hub\]"'):
        load(config("owner/set", tmp_path), 1, 0)


def test_free_text_is_read_as_from_a_file(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"review": ["good film", "bad", "bad film"], "more": ["a", "b", "c"], "label": [1, 0, 0]}).to_parquet(
        path
    )
    loaded = load(config(path, tmp_path, text="review", length=3), 1, 0)
    # bad 2, film 3, good 4
    assert loaded.x.tolist() == [[4, 3, 0], [2, 0, 0], [2, 3, 0]]
    with pytest.raises(DataError, match=r"has no column 'text'. Set data.text to one of: review, more, label"):
        load(config(path, tmp_path, text="text"), 1, 0)
