import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources import catalogue as sources
from strata.engine.data.sources.catalogue import data_root, limited, load
from strata.engine.errors import DataError


@pytest.fixture(scope="module")
def embedded():
    return load(DataConfig(), 1, 0)


def test_embedded_set(embedded):
    assert embedded.x.shape == (12_000, 1, 28, 28)
    assert embedded.x.dtype == np.uint8
    assert np.bincount(embedded.y[~embedded.natural_test]).tolist() == [1000] * 10
    assert np.bincount(embedded.y[embedded.natural_test]).tolist() == [200] * 10
    assert embedded.class_names[9] == "Ankle boot"
    assert len(np.unique(embedded.x.reshape(12_000, -1), axis=0)) > 11_900  # real, distinct pictures
    assert (embedded.shift, embedded.scale) == (0.5, 0.5)


def test_runs_share_the_embedded_set_and_cannot_write_to_it(embedded):
    again = load(DataConfig(), 1, 0)
    assert np.shares_memory(again.x, embedded.x)
    with pytest.raises(ValueError, match="read-only"):
        again.x[0] = 0


def test_embedded_classes_are_what_their_names_say(embedded):
    # Trousers have the fewest lit columns: true of the pictures, not of a mere label.
    lit = [(embedded.x[embedded.y == label][:, 0] > 40).any(axis=1).sum(axis=1).mean() for label in range(10)]
    assert int(np.argmin(lit)) == 1


def test_embedded_set_carries_its_licence():
    folder = Path(sources.EMBEDDED_FILE).parent
    assert "Zalando SE" in (folder / "LICENSE.fashion-mnist").read_text()
    assert os.path.getsize(sources.EMBEDDED_FILE) < 6_000_000


def test_root_order(monkeypatch, tmp_path):
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    assert data_root(DataConfig()) == tmp_path
    assert data_root(DataConfig(root="/elsewhere")) == Path("/elsewhere")
    monkeypatch.delenv("STRATA_DATA")
    assert data_root(DataConfig()) == Path("~/.cache/strata").expanduser()


@pytest.mark.parametrize("name", ["mnist", "cifar100", "no_such_set"])
def test_missing_set_names_three_ways(tmp_path, name):
    with pytest.raises(DataError) as caught:
        load(DataConfig(name=name, root=str(tmp_path)), 1, 0)
    message = str(caught.value)
    for part in (repr(name), 'pip install "strata-fl[hub]"', "hub:", str(tmp_path / name), "fashion_mnist_12k"):
        assert part in message


@pytest.mark.parametrize("name", ["set.pkl", "set.pickle", "model.pt"])
def test_pickles_are_refused_with_the_reason(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for config in (DataConfig(name=str(tmp_path / name)), DataConfig(name=str(tmp_path / name), format="npz")):
        with pytest.raises(DataError, match=r"is a pickle, and loading a pickle runs whatever code it holds"):
            load(config, 1, 0)
    with pytest.raises(DataError, match=r"is a pickle"):
        load(DataConfig(name=str(tmp_path)), 1, 0)


def test_pickled_arrays_are_refused_without_running_them(tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    np.savez(tmp_path / "set.npz", X=np.array([Evil(), Evil()], dtype=object), y=np.array([0, 1]))
    with pytest.raises(DataError, match=r"holds pickled objects, and loading a pickle runs"):
        load(DataConfig(name=str(tmp_path / "set.npz")), 1, 0)
    assert not marker.exists()


def test_npz_with_clients_and_test_flags(tmp_path):
    x = np.arange(24, dtype=np.float64).reshape(4, 3, 2)
    np.savez(tmp_path / "w.npz", X=x, y=[5, 7, 5, 7], subject=[1, 1, 2, 2], test=[0, 0, 0, 1])
    dataset = load(DataConfig(name="w.npz", root=str(tmp_path), layout="last"), 1, 0)
    assert dataset.x.dtype == np.float32
    assert dataset.x.flags["C_CONTIGUOUS"]
    assert np.array_equal(dataset.x, x.transpose(0, 2, 1))
    assert dataset.y.tolist() == [0, 1, 0, 1]
    assert dataset.natural.tolist() == ["1", "1", "2", "2"]
    assert dataset.natural_test.tolist() == [False, False, False, True]
    assert load(DataConfig(name=str(tmp_path)), 1, 0).input_shape == (3, 2)


@pytest.mark.parametrize(
    ("arrays", "config", "message"),
    [
        ({"X": np.zeros((3, 2))}, {}, "has no array y or label or labels or target; it has: X"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(2)}, {}, r"y has shape \(2,\), expected \(3,\)"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(3)}, {"client_column": "who"}, "has no array 'who'"),
        ({"X": np.array([[np.nan], [1]]), "y": np.zeros(2)}, {}, "1 input values are missing or not finite"),
        ({"X": np.array([["a"], ["b"]]), "y": np.zeros(2)}, {}, "inputs are of type <U1; expected numbers"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, {}, "0 inputs and 0 labels"),
        ({"X": np.zeros((2, 2)), "y": np.array([0, np.nan])}, {}, "1 of 2 labels are missing"),
    ],
)
def test_malformed_npz(tmp_path, arrays, config, message):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(DataConfig(name=str(tmp_path / "m.npz"), **config), 1, 0)


def test_not_an_archive(tmp_path):
    (tmp_path / "m.npz").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(DataError, match=r"cannot be read as .npz"):
        load(DataConfig(name=str(tmp_path / "m.npz")), 1, 0)
    with zipfile.ZipFile(tmp_path / "n.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(DataError, match=r"has no array x"):
        load(DataConfig(name=str(tmp_path / "n.npz")), 1, 0)


def test_unknown_formats(tmp_path):
    (tmp_path / "a.xyz").write_text("?")
    with pytest.raises(DataError, match=r"is in no known format. Set data.format to one of: idx"):
        load(DataConfig(name=str(tmp_path / "a.xyz")), 1, 0)
    with pytest.raises(DataError, match=r"holds nothing in a known format"):
        load(DataConfig(name=str(tmp_path)), 1, 0)
    with pytest.raises(DataError, match=r"data.format='xlsx' is unknown"):
        load(DataConfig(name=str(tmp_path), format="xlsx"), 1, 0)


def test_limit_is_balanced_seeded_and_keeps_the_split(embedded):
    small = limited(embedded, 600, seed=3)
    # The published test split is 2,000 of 12,000, a sixth: 100 of 600.
    assert np.bincount(small.y[~small.natural_test]).tolist() == [50] * 10
    assert np.bincount(small.y[small.natural_test]).tolist() == [10] * 10
    assert np.array_equal(small.x, limited(embedded, 600, seed=3).x)
    assert not np.array_equal(small.x, limited(embedded, 600, seed=4).x)


def test_limit_takes_all_of_a_rare_class(make_dataset):
    dataset = sources.take(make_dataset(per_class=50, classes=3), np.r_[0:4, 50:150])
    assert np.bincount(limited(dataset, 30, 0).y).tolist() == [4, 13, 13]
    assert limited(dataset, 1000, 0) is dataset
    with pytest.raises(DataError, match=r"data.limit=2 leaves some of the 3 classes empty"):
        limited(dataset, 2, 0)
