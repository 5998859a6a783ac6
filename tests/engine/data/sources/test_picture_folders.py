"""Folders of pictures as others lay them out: what is a class, what a split, and what is left out."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.errors import DataError


def pictures(folder, *classes, count=2, suffix=".png", size=(4, 4)):
    """Write ``count`` grey pictures into each folder; all differ, by their first pixel."""
    for label in classes:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            grey = np.full(size, 200, np.uint8)
            grey[0, 0] = number
            Image.fromarray(grey).save(folder / label / f"{number}{suffix}")


def found(folder, **options):
    return load(DataConfig(name=str(folder), **options), 1, 0)


def test_what_systems_leave_is_no_class(tmp_path):
    pictures(tmp_path, "cat", "dog")
    pictures(tmp_path, ".ipynb_checkpoints", ".git", "__MACOSX", "cat/.ipynb_checkpoints")
    (tmp_path / "cat/._0.png").write_bytes(b"\0\5\x16\7")
    dataset = found(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.y.tolist() == [0, 0, 1, 1]
    assert not dataset.remarks.cautions


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Training", "Testing"), ("TRAIN", "val"), ("train", "Validation")]
)
def test_splits_are_known_by_their_names(tmp_path, train, test):
    pictures(tmp_path / train, "cat", "dog", count=3)
    pictures(tmp_path / test, "cat", "dog", count=1)
    dataset = found(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.natural_test.tolist() == [False] * 6 + [True] * 2
    assert any(note.endswith(f"{test} is the published test split") for note in dataset.remarks.notes)
    assert not dataset.remarks.cautions


def test_of_several_test_splits_one_is_taken_and_the_other_said(tmp_path):
    pictures(tmp_path / "train", "cat", "dog", count=3)
    pictures(tmp_path / "val", "cat", "dog", count=2)
    pictures(tmp_path / "test", "cat", "dog", count=1)
    dataset = found(tmp_path)
    assert dataset.natural_test.sum() == 2
    assert [caution.split("/")[-1] for caution in dataset.remarks.cautions] == [
        "val is left out with 4 pictures: another is the test split."
    ]


@pytest.mark.parametrize(("inner", "said"), [("", "they are in no class folder"), ("images", "its folders (images/)")])
def test_a_test_split_without_classes_is_left_out_and_said(tmp_path, inner, said):
    pictures(tmp_path / "train", "cat", "dog")
    pictures(tmp_path / "test", inner, count=5)
    dataset = found(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.natural_test is None
    (caution,) = dataset.remarks.cautions
    assert "test is left out with 5 pictures" in caution
    assert said in caution


def test_a_test_split_with_a_class_of_its_own_is_said(tmp_path):
    pictures(tmp_path / "train", "cat", "dog")
    pictures(tmp_path / "test", "cat", "owl")
    dataset = found(tmp_path)
    assert dataset.class_names == ("cat", "dog", "owl")
    assert any("test has classes that train has not: owl/" in caution for caution in dataset.remarks.cautions)


def test_a_class_may_be_called_train(tmp_path):
    pictures(tmp_path, "train", "bus", "car")
    dataset = found(tmp_path)
    assert dataset.class_names == ("bus", "car", "train")
    assert any("train/ is read as a class" in note for note in dataset.remarks.notes)


def test_a_wrapping_folder_is_taken_off(tmp_path):
    pictures(tmp_path / "archive/animals", "cat", "dog")
    dataset = found(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert [note.split("/", 1)[-1].split(" holds ")[-1] for note in dataset.remarks.notes[:2]] == [
        "nothing but archive/, which is read instead",
        "nothing but animals/, which is read instead",
    ]
    pictures(tmp_path / "splits/once/train", "cat", "dog", count=3)
    pictures(tmp_path / "splits/once/test", "cat", "dog", count=1)
    assert found(tmp_path / "splits").natural_test.sum() == 2


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "test"), r"holds test/, train/: expected class folders, or train/ and test/ with class folders"),
        (("test/cat", "test/dog", "val/cat", "val/dog"), r"holds test/, val/: expected class folders"),
        (("cat", "dog", "test/cat", "test/dog"), r"holds cat/, dog/, test/: expected"),
        (("train/cat", "train/dog", "bus"), r"train/ holds class folders, and beside it lies bus/"),
    ],
)
def test_folders_that_may_be_classes_or_splits_are_refused(tmp_path, folders, message):
    pictures(tmp_path, *folders)
    with pytest.raises(DataError, match=message):
        found(tmp_path)


def test_what_lies_beside_both_splits_is_left_out_and_said(tmp_path):
    pictures(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog", "sample")
    dataset = found(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert any("sample/ is left out" in caution for caution in dataset.remarks.cautions)


def test_loose_pictures_other_files_and_empty_classes_are_said(tmp_path):
    pictures(tmp_path, "cat", "dog")
    pictures(tmp_path, "", count=3)
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl/1.heic").write_bytes(b"heic")
    dataset = found(tmp_path)
    assert len(dataset.y) == 4
    assert any("3 pictures beside the class folders are left out" in line for line in dataset.remarks.cautions)
    assert any("no pictures in owl/, so it is no class" in line for line in dataset.remarks.cautions)
    assert any("are left out: 1 × .heic" in line for line in dataset.remarks.notes)


def test_linked_folders_count(tmp_path):
    pictures(tmp_path / "elsewhere", "more", "owls", count=3)
    pictures(tmp_path / "set", "cat", "dog")
    (tmp_path / "set/cat/linked").symlink_to(tmp_path / "elsewhere/more")
    (tmp_path / "set/owl").symlink_to(tmp_path / "elsewhere/owls")
    dataset = found(tmp_path / "set")
    assert dataset.class_names == ("cat", "dog", "owl")
    assert np.bincount(dataset.y).tolist() == [5, 2, 3]


def test_a_link_to_the_set_itself_puts_no_picture_into_another_class(tmp_path):
    pictures(tmp_path, "cat", "dog")
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    assert np.bincount(found(tmp_path).y).tolist() == [2, 2]


def test_grey_pictures_among_coloured_ones_are_said_and_transparent_grey_ones_are_grey(tmp_path):
    pictures(tmp_path, "cat")
    (tmp_path / "dog").mkdir()
    for number in range(2):
        Image.new("LA", (4, 4), (number, 255)).save(tmp_path / "dog" / f"{number}.png")
    grey = found(tmp_path)
    assert grey.x.shape == (4, 1, 4, 4)
    Image.new("RGB", (4, 4), (9, 8, 7)).save(tmp_path / "dog" / "2.png")
    mixed = found(tmp_path)
    assert mixed.x.shape == (5, 3, 4, 4)
    assert "4 of 5 pictures are grey, the others coloured: all have three channels" in mixed.remarks.notes


def test_pictures_of_several_sizes_are_resized_when_asked(tmp_path):
    pictures(tmp_path, "cat", size=(4, 8))
    pictures(tmp_path, "dog", size=(6, 6))
    with pytest.raises(DataError, match=r"dog/0.png is 6×6 pixels, .* is 8×4\. Set data\.resize=SIDE"):
        found(tmp_path)
    dataset = found(tmp_path, resize=4)
    assert dataset.input_shape == (1, 4, 4)
    assert dataset.x[0, 0, 3, 3] == 200  # far from the one other pixel
    assert "pictures are resized to 4×4 pixels (data.resize)" in dataset.remarks.notes


def test_folders_within_a_class_are_said(tmp_path):
    pictures(tmp_path / "plain", "cat", "cat/young/b", "dog")
    dataset = found(tmp_path / "plain")
    assert np.bincount(dataset.y).tolist() == [4, 2]
    said = "plain: the first folder of cat/young/b/ is the class of the pictures there"
    assert [note for note in dataset.remarks.notes if note.endswith(said)]
    pictures(tmp_path / "split", "train/cat/old", "train/dog", "test/cat", "test/dog/cat")
    notes = found(tmp_path / "split").remarks.notes
    assert [note.split("/")[-4:] for note in notes if "first folder" in note] == [
        ["split", "train: the first folder of cat", "old", " is the class of the pictures there"],
        ["split", "test: the first folder of dog", "cat", " is the class of the pictures there"],
    ]
    pictures(tmp_path / "flat", "cat", "dog")
    assert not any("first folder" in note for note in found(tmp_path / "flat").remarks.notes)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_as_their_tag_says(tmp_path, suffix, orientation):
    grey = np.zeros((16, 24), np.uint8)
    grey[:8, :8] = 255  # the corner at the upper left, of an upright picture
    # Of each orientation, how a camera that wrote it lay: Pillow's Transpose, turned back for 6 and 8.
    lying = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    lying |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    tagged, exif = Image.fromarray(grey), Image.Exif()
    if orientation > 1:
        tagged = tagged.transpose(Image.Transpose[lying[orientation]])
    exif[0x0112] = orientation
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.fromarray(grey).save(tmp_path / label / "1.png")
    tagged.save(tmp_path / f"cat/0{suffix}", exif=exif)
    dataset = found(tmp_path)
    assert dataset.input_shape[1:] == (16, 24)
    assert np.abs(dataset.x[0].astype(int) - dataset.x[1]).mean() < 10
    said = f"1 pictures are turned as their EXIF tag of orientation says (the first is {tmp_path}/cat/0{suffix})"
    assert (said in dataset.remarks.notes) is (orientation > 1)


def test_alpha_and_frames_that_are_left_out_are_said(tmp_path):
    solid = np.full((4, 4, 4), 255, np.uint8)
    clear = solid.copy()
    clear[0, 0, 3] = 0
    for name, pixels in (("cat/1.png", solid), ("dog/1.png", clear)):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(pixels).save(tmp_path / name)
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (10, 20)]
    frames[0].save(tmp_path / "dog/2.gif", save_all=True, append_images=frames[1:])
    dataset = found(tmp_path)
    assert dataset.input_shape == (3, 4, 4)
    first, second = sorted(dataset.remarks.cautions)
    assert first.startswith("1 pictures have several frames or pages (the first is ")
    assert second.startswith(f"1 pictures have transparent pixels (the first is {tmp_path / 'dog/1.png'})")


def test_hidden_files_stop_no_format(tmp_path, write_idx, write_cifar):
    write_cifar(tmp_path / "cifar/data_batch_1.bin", [3, 9])
    write_idx(tmp_path / "idx/train-images-idx3-ubyte", np.zeros((2, 4, 4), np.uint8))
    write_idx(tmp_path / "idx/train-labels-idx1-ubyte", np.array([0, 1], np.uint8))
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz/a.npz", X=np.zeros((2, 3)), y=[0, 1])
    for name in ("cifar/._data_batch_1.bin", "idx/._train-images-idx3-ubyte", "npz/._a.npz"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for name in ("cifar", "idx", "npz"):
        assert len(found(tmp_path / name).y) == 2


def test_missing_and_doubled_files_of_cifar_are_said(tmp_path, write_cifar):
    for number in (1, 2, 4, 5):
        write_cifar(tmp_path / f"a/data_batch_{number}.bin", [3, 9])
    write_cifar(tmp_path / "a/test_batch.bin", [3])
    (caution,) = found(tmp_path).remarks.cautions
    assert caution.endswith("data_batch_3.bin of CIFAR-10 are not there.")
    write_cifar(tmp_path / "b/data_batch_1.bin", [1])
    with pytest.raises(DataError, match=r"holds data_batch_1.bin 2 times"):
        found(tmp_path)
    write_cifar(tmp_path / "c/train.bin", [1], label_bytes=2)
    write_cifar(tmp_path / "c/data_batch_1.bin", [1])
    with pytest.raises(DataError, match="holds CIFAR-10 and CIFAR-100"):
        found(tmp_path / "c")


def test_two_copies_of_an_idx_set_are_refused(tmp_path, write_idx):
    for copy in ("a", "b"):
        write_idx(tmp_path / copy / "train-images-idx3-ubyte", np.zeros((2, 4, 4), np.uint8))
        write_idx(tmp_path / copy / "train-labels-idx1-ubyte", np.array([0, 1], np.uint8))
    with pytest.raises(DataError, match=r"holds train-images-idx3-ubyte 2 times"):
        found(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_picture_with_a_damaged_tag_block_is_read_as_it_lies(tmp_path, suffix):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / f"cat/0{suffix}", exif=b"Exif\0\0garbagegarbage")
    Image.fromarray(grey).save(tmp_path / "dog/0.png")
    dataset = found(tmp_path)
    assert len(dataset.y) == 2
    assert not [note for note in dataset.remarks.notes if "EXIF" in note]


def test_a_picture_is_turned_though_another_of_its_tags_is_odd(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    # Orientation 3, and a resolution of four letters, which Pillow reads and cannot write.
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0) + struct.pack("<HHI4s", 0x011A, 7, 4, b"abcd")
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "cat/0.png", exif=block)
    with Image.open(tmp_path / "cat/0.png") as odd, pytest.raises(TypeError):
        ImageOps.exif_transpose(odd)
    Image.fromarray(grey).save(tmp_path / "dog/0.png")
    dataset = found(tmp_path)
    assert np.array_equal(dataset.x[0], dataset.x[1][..., ::-1, ::-1])
