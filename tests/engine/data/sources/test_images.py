import numpy as np
import pytest
from PIL import Image

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.data.sources.images import read_cifar, read_idx, read_idx_array
from strata.engine.data.sources.picture_folders import read_picture_folders
from strata.engine.errors import DataError


def mnist_like(write_idx, folder, suffix="", prefix="", train=6, test=4):
    pixels = np.random.default_rng(0).integers(0, 256, (train + test, 5, 4), dtype=np.uint8)
    labels = (np.arange(train + test) % 3).astype(np.uint8)
    for split, rows in (("train", slice(0, train)), ("t10k", slice(train, None))):
        write_idx(folder / f"{prefix}{split}-images-idx3-ubyte{suffix}", pixels[rows])
        write_idx(folder / f"{prefix}{split}-labels-idx1-ubyte{suffix}", labels[rows])
    return pixels, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_gives_both_splits_in_order(tmp_path, write_idx, suffix):
    pixels, labels = mnist_like(write_idx, tmp_path / "mnist", suffix)
    dataset = load(DataConfig(name="mnist", root=str(tmp_path)), 1, 0)
    assert dataset.x.dtype == np.uint8
    assert np.array_equal(dataset.x, pixels[:, None])
    assert np.array_equal(dataset.y, labels)
    assert dataset.natural_test.tolist() == [False] * 6 + [True] * 4
    assert (dataset.classes, dataset.name, dataset.input_shape) == (3, "mnist", (1, 5, 4))


def test_emnist_names_and_orientation(tmp_path, write_idx):
    # EMNIST's files store the transpose of the upright picture, and label letters from 1.
    upright = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)
    write_idx(tmp_path / "emnist/gzip/emnist-letters-train-images-idx3-ubyte.gz", upright.swapaxes(1, 2))
    write_idx(tmp_path / "emnist/gzip/emnist-letters-train-labels-idx1-ubyte.gz", np.array([1, 26], np.uint8))
    dataset = load(DataConfig(name="emnist", root=str(tmp_path)), 1, 0)
    assert np.array_equal(dataset.x[:, 0], upright)
    assert dataset.y.tolist() == [0, 1]
    assert dataset.class_names == ("1", "26")
    assert dataset.natural_test is None


def test_several_idx_sets_in_one_folder_are_refused(tmp_path, write_idx):
    mnist_like(write_idx, tmp_path, prefix="emnist-digits-")
    mnist_like(write_idx, tmp_path, prefix="emnist-letters-")
    with pytest.raises(DataError, match=r"holds 2 IDX sets \(emnist-digits, emnist-letters\)"):
        read_idx(tmp_path)


def test_a_compressed_twin_is_not_read_twice(tmp_path, write_idx):
    mnist_like(write_idx, tmp_path)
    mnist_like(write_idx, tmp_path, ".gz")
    assert len(read_idx(tmp_path).x) == 10


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_idx_array_types_and_byte_order(tmp_path, write_idx, dtype):
    array = np.array([[1, 2, 250], [4, 5, 6]], dtype)
    write_idx(tmp_path / "a", array)
    assert np.array_equal(read_idx_array(tmp_path / "a"), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04pickled", "is not an IDX file: it starts with 80047069"),
        (b"", "starts with nothing"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2]), "declares 9 values = 9 bytes and holds 2"),
    ],
)
def test_damaged_idx(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx_array(tmp_path / "a")


def test_damaged_compression_and_missing_labels(tmp_path, write_idx):
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match=r"cannot be decompressed"):
        read_idx_array(tmp_path / "a.gz")
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"expected train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz"):
        read_idx(tmp_path)


def test_cifar10(tmp_path, write_cifar):
    folder = tmp_path / "cifar10/cifar-10-batches-bin"
    first = write_cifar(folder / "data_batch_1.bin", [3, 9])
    second = write_cifar(folder / "data_batch_2.bin", [0])
    test = write_cifar(folder / "test_batch.bin", [5, 5, 1])
    (folder / "batches.meta.txt").write_text("\n".join(f"name{label}" for label in range(10)) + "\n\n")
    dataset = load(DataConfig(name="cifar10", root=str(tmp_path)), 1, 0)
    assert np.array_equal(dataset.x, np.concatenate([first, second, test]))
    assert dataset.y.tolist() == [3, 9, 0, 5, 5, 1]
    assert dataset.classes == 10
    assert dataset.class_names[9] == "name9"
    assert dataset.natural_test.tolist() == [False] * 3 + [True] * 3


def test_cifar100_takes_the_fine_label(tmp_path, write_cifar):
    write_cifar(tmp_path / "cifar100/train.bin", [99, 4], label_bytes=2)
    write_cifar(tmp_path / "cifar100/test.bin", [50], label_bytes=2)
    dataset = load(DataConfig(name="cifar100", root=str(tmp_path)), 1, 0)
    assert dataset.y.tolist() == [99, 4, 50]
    assert dataset.classes == 100


def test_cifar_of_wrong_length_or_label(tmp_path, write_cifar):
    (tmp_path / "data_batch_1.bin").write_bytes(b"x" * 3000)
    with pytest.raises(DataError, match=r"has 3000 bytes, not a multiple of 3073"):
        read_cifar(tmp_path)
    write_cifar(tmp_path / "data_batch_1.bin", [200])
    with pytest.raises(DataError, match=r"labels 200\.\.200, expected 0\.\.9"):
        load(DataConfig(name=str(tmp_path)), 1, 0)


def test_cifar_python_version_is_refused_with_the_reason(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x03")
    with pytest.raises(DataError, match=r"Python version, a pickle: loading one runs whatever code"):
        load(DataConfig(name=str(tmp_path)), 1, 0)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_picture_folders_with_splits(tmp_path):
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 200
    save(tmp_path / "train/cat/a.png", red)
    save(tmp_path / "train/dog/b.png", np.full((4, 6), 9, np.uint8))
    save(tmp_path / "test/dog/c.png", red)
    dataset = load(DataConfig(name=str(tmp_path)), 1, 0)
    assert dataset.x.shape == (3, 3, 4, 6)
    assert dataset.x[0].reshape(3, -1).max(axis=1).tolist() == [200, 0, 0]
    assert (dataset.x[1] == 9).all()
    assert dataset.class_names == ("cat", "dog")
    assert dataset.y.tolist() == [0, 1, 1]
    assert dataset.natural_test.tolist() == [False, False, True]


def test_grey_pictures_keep_one_channel(tmp_path):
    save(tmp_path / "a/1.png", np.full((3, 3), 5, np.uint8))
    save(tmp_path / "b/1.png", np.full((3, 3), 6, np.uint8))
    raw = read_picture_folders(tmp_path, DataConfig())
    assert raw.x.shape == (2, 1, 3, 3)
    assert raw.test is None


def test_pictures_of_different_size_or_unreadable(tmp_path):
    save(tmp_path / "a/1.png", np.zeros((3, 3), np.uint8))
    save(tmp_path / "b/2.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(DataError, match=r"2.png is 4×3 pixels, .*1.png is 3×3. Set data.resize=SIDE"):
        read_picture_folders(tmp_path, DataConfig())
    (tmp_path / "b/2.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"2.png cannot be read as a picture"):
        read_picture_folders(tmp_path, DataConfig())
