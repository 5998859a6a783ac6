"""Arrays as others write them: names of splits, classes in columns, channels anywhere, and files that are none."""

import io
import zipfile

import numpy as np
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.arrays import channels_first
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError

RNG = np.random.default_rng(0)
LABELS = np.arange(12) % 3


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def found(tmp_path, arrays, **options):
    np.savez(tmp_path / "set.npz", **arrays)
    return load(DataConfig(name=str(tmp_path / "set.npz"), **options), 1, 0)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("x_{}", "y_{}"),
        ("X_{}", "Y_{}"),
        ("{}_images", "{}_labels"),
        ("{}_data", "{}_label"),
        ("{}_x", "{}_y"),
    ],
)
def test_names_may_say_the_split(tmp_path, x, y):
    train, test = pixels(12, 1, 8, 8), pixels(6, 1, 8, 8)
    parts = {"train": (train, LABELS), "test": (test, LABELS[:6])}
    arrays = {name.format(split): part[at] for split, part in parts.items() for at, name in enumerate((x, y))}
    dataset = found(tmp_path, arrays)
    assert np.array_equal(dataset.x, np.concatenate([train, test]))
    assert dataset.y.tolist() == [*LABELS, *LABELS[:6]]
    assert dataset.natural_test.tolist() == [False] * 12 + [True] * 6
    folder = tmp_path / "npy"
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    assert np.array_equal(load(DataConfig(name=str(folder)), 1, 0).x, dataset.x)


def test_a_set_as_medmnist_writes_it(tmp_path):
    arrays = {}
    for split, rows in (("train", 12), ("val", 3), ("test", 6)):
        arrays |= {f"{split}_images": pixels(rows, 28, 28, 3), f"{split}_labels": LABELS[:rows, None]}
    dataset = found(tmp_path, arrays)
    assert np.array_equal(dataset.x[:12], arrays["train_images"].transpose(0, 3, 1, 2))
    assert dataset.y.tolist() == [*LABELS, *LABELS[:6]]
    assert dataset.natural_test.sum() == 6
    assert any("arrays of val are not read, for test is the test split" in line for line in dataset.remarks.cautions)
    del arrays["test_images"], arrays["test_labels"]
    assert found(tmp_path, arrays).natural_test.sum() == 3


def test_splits_that_do_not_fit_are_refused(tmp_path):
    arrays = {"x_train": np.zeros((4, 3)), "y_train": [0, 1, 0, 1], "x_test": np.zeros((2, 5)), "y_test": [0, 1]}
    with pytest.raises(DataError, match=r"x of train has shape \(4, 3\), that of test \(2, 5\): expected alike"):
        found(tmp_path, arrays)
    with pytest.raises(DataError, match=r"x of train has shape \(\), that of test \(\)"):
        found(tmp_path, dict.fromkeys(arrays, np.float32(1)))
    del arrays["x_test"]
    with pytest.raises(DataError, match=r"x of train has shape \(4, 3\), that of test none"):
        found(tmp_path, arrays)


def test_arrays_without_names_are_inputs_and_classes(tmp_path):
    x = RNG.random((12, 5)).astype(np.float32)
    np.savez(tmp_path / "set.npz", x, LABELS)
    dataset = load(DataConfig(name=str(tmp_path / "set.npz")), 1, 0)
    assert np.array_equal(dataset.x, x)
    assert dataset.y.tolist() == LABELS.tolist()


@pytest.mark.parametrize("labels", [LABELS[:, None], np.eye(3)[LABELS], np.eye(3, dtype=bool)[LABELS]])
def test_classes_may_stand_in_columns(tmp_path, labels):
    dataset = found(tmp_path, {"X": np.zeros((12, 2)), "y": labels})
    assert dataset.y.tolist() == LABELS.tolist()
    assert any(note.startswith("y of shape (12, ") for note in dataset.remarks.notes)


@pytest.mark.parametrize("labels", [np.zeros((12, 1, 1)), np.zeros((11, 3)), np.int64(3)])
def test_classes_of_another_form_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match=r"y has shape \(.*\), expected \(12,\)"):
        found(tmp_path, {"X": np.zeros((12, 2)), "y": labels})


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((28, 28), "u1", (1, 28, 28)),
        ((28, 28), "f4", (1, 28, 28)),
        ((32, 24), "u1", (1, 32, 24)),
        ((9, 128), "f4", (9, 128)),
        ((3, 128), "u1", (3, 128)),
        ((4, 4), "f4", (4, 4)),
        ((32, 32, 3), "u1", (3, 32, 32)),
        ((28, 28, 1), "f4", (1, 28, 28)),
        ((3, 32, 32), "u1", (3, 32, 32)),
        ((1, 32, 4), "f4", (1, 32, 4)),
        ((6, 128, 1), "f4", (6, 128, 1)),
        ((5,), "f4", (5,)),
    ],
)
def test_the_shape_says_where_channels_lie(shape, kind, expected):
    x, remarks = channels_first(np.zeros((2, *shape), kind), "auto")
    assert x.shape == (2, *expected)
    assert not remarks.cautions
    assert channels_first(np.zeros((2, *shape), kind), "first")[0].shape == (2, *shape)


def test_the_setting_says_where_channels_lie():
    x = RNG.random((2, 9, 5))
    assert np.array_equal(channels_first(x, "last")[0], x.transpose(0, 2, 1))
    assert np.array_equal(channels_first(x, "none")[0], x[:, None])
    assert "9 channels of 5 steps. Set data.layout=last" in channels_first(x, "auto")[1].cautions[0]
    assert not channels_first(x, "first")[1].cautions


def header(shape):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return content.getvalue()


def encrypted():
    """An archive whose entry says that it is encrypted: bit 0 of its flags, in both of its headers."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("X.npy", header((2, 2)) + bytes(32))
    made = bytearray(content.getvalue())
    made[6] |= 1
    made[made.index(b"PK\x01\x02") + 8] |= 1
    return bytes(made)


def zipped(**entries):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, value in entries.items():
            archive.writestr(name.replace("_", "."), value)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404</html>", r"is a web page \(HTML\), not the data"),
        (b"\n <html lang=en>", r"is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"is a pointer of Git LFS.*git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.npz", r"is a pointer of git-annex"),
        (b"hello", r"is no \.npz: it starts with b'hello'"),
        (b"\x80\x04.", r"holds pickled objects"),
        (header((2, 2)) + bytes(32), r"is a single array \(\.npy\)"),
        (encrypted(), r"cannot be read as \.npz .*encrypted"),
        (zipped(X="abc", y="abc"), r"has no array x"),
        (zipped(X_npy=header((10**12, 5)), y_npy=b""), r"declares arrays that do not fit into memory|cannot be read"),
    ],
)
def test_files_that_are_no_archive_are_called_what_they_are(tmp_path, content, message):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(DataConfig(name=str(tmp_path / "set.npz")), 1, 0)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "data_batch_1.bin", "train-images-idx3-ubyte.gz"])
def test_what_stands_for_a_file_is_refused_in_every_format(tmp_path, name):
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match="is a pointer of Git LFS"):
            load(DataConfig(name=str(path)), 1, 0)
