"""Sets fetched from a server of this machine: small files of the published formats."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from strata.cluster.cli import main
from strata.cluster.commands import fetch_data
from strata.cluster.fetching.fetching import fetch
from strata.cluster.fetching.published import PUBLISHED
from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import KNOWN, load
from strata.engine.errors import DataError

N = 40  # pictures of a split


def idx(array):
    """An IDX file: its magic number, the sizes, the values; LeCun's format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.astype("u1").tobytes())


def idx_files(first="", tests="t10k"):
    """The four files of an IDX set with ten classes, by name."""
    draws = np.random.default_rng(0)
    return {
        f"{first}{split}-{kind}-ubyte.gz": idx(array)
        for split in ("train", tests)
        for kind, array in (
            ("images-idx3", draws.integers(0, 256, (N, 28, 28))),
            ("labels-idx1", np.arange(N) % 10),
        )
    }


def cifar_archive(folder, names, label_bytes, text):
    """A .tar.gz of CIFAR's binary version: label bytes and 3072 values a record."""
    records = np.random.default_rng(1).integers(0, 256, (N, label_bytes + 3072)).astype("u1")
    records[:, label_bytes - 1] = np.arange(N) % (10 if label_bytes == 1 else 100)
    content = {**dict.fromkeys(names, records.tobytes()), **text, "readme.html": b"not wanted"}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, value in content.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(value)
            archive.addfile(entry, io.BytesIO(value))
    return made.getvalue()


def emnist_archive():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, value in {**idx_files("emnist-digits-", "test"), **idx_files("emnist-letters-", "test")}.items():
            archive.writestr(f"gzip/{name}", value)
    return made.getvalue()


FILES = {
    **idx_files(),
    "gzip.zip": emnist_archive(),
    "cifar-10-binary.tar.gz": cifar_archive(
        "cifar-10-batches-bin",
        [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"],
        1,
        {"batches.meta.txt": b"\n".join(b"class%d" % k for k in range(10)) + b"\n\n"},
    ),
    "cifar-100-binary.tar.gz": cifar_archive(
        "cifar-100-binary",
        ["train.bin", "test.bin"],
        2,
        {"fine_label_names.txt": b"\n".join(b"fine%d" % k for k in range(100))},
    ),
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves :data:`FILES`; what is called half/ ends in the middle, what is called other/ has a bit of its own."""

    def do_GET(self):
        where, _, name = self.path.strip("/").rpartition("/")
        if name not in FILES:
            self.send_error(404)
            return
        content = FILES[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if where == "other" and name == list(idx_files())[-1]:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.wfile.write(content[: len(content) // 2] if where == "half" else content)

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


@pytest.fixture
def small(monkeypatch):
    """The published sets, with the checksums of the small files that stand in."""

    def stand_in(file):
        content = FILES[file.name]
        return replace(file, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))

    sets = {name: replace(one, files=tuple(map(stand_in, one.files))) for name, one in PUBLISHED.items()}
    monkeypatch.setattr(fetch_data, "PUBLISHED", sets)
    return sets


def left(root):
    """All that lies in a folder, hidden or not."""
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def test_every_set_with_a_name_can_be_fetched():
    assert set(PUBLISHED) == set(KNOWN)
    files = [file for one in PUBLISHED.values() for file in one.files]
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in files)
    assert len({file.sha256 for file in files}) == len(files)


@pytest.mark.parametrize(
    ("name", "train", "shape", "classes"),
    [
        ("mnist", N, (1, 28, 28), 10),
        ("fashion_mnist", N, (1, 28, 28), 10),
        ("emnist", N, (1, 28, 28), 10),
        ("cifar10", 5 * N, (3, 32, 32), 10),
        ("cifar100", N, (3, 32, 32), 100),
    ],
)
def test_what_is_fetched_is_what_data_reads(tmp_path, server, small, capsys, name, train, shape, classes):
    assert main(["fetch", name, "--root", str(tmp_path / "new"), "--from", server]) == 0
    assert f"read by data={name}" in capsys.readouterr().out
    found = load(DataConfig(name=name, root=str(tmp_path / "new")), 1, 0)
    assert found.input_shape == shape
    assert found.classes == classes
    assert int((~found.natural_test).sum()) == train
    assert int(found.natural_test.sum()) == N
    assert not found.remarks.cautions
    assert left(tmp_path / "new") == [name]
    assert sorted(left(tmp_path / "new" / name)) == sorted(small[name].kept)


def test_what_is_there_is_left_alone(tmp_path, server, small, capsys):
    words = ["fetch", "mnist", "mnist", "--root", str(tmp_path), "--from", server]
    assert main(words) == 0
    before = (tmp_path / "mnist").stat().st_mtime_ns
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == f"mnist: already in {tmp_path / 'mnist'}"
    assert (tmp_path / "mnist").stat().st_mtime_ns == before


def test_a_set_in_part_is_not_written_over(tmp_path, server, small, capsys):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(b"mine")  # without .gz, as readers take it
    assert main(["fetch", "mnist", "--root", str(tmp_path), "--from", server]) == 1
    said = capsys.readouterr().err
    assert "lacks train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz" in said
    assert left(tmp_path / "mnist") == ["train-images-idx3-ubyte"]


@pytest.mark.parametrize(
    ("where", "said"),
    [("other", "It is not what was published"), ("half", "bytes with SHA-256"), ("nowhere/x", "HTTP 404 Not Found")],
)
def test_nothing_is_left_of_what_does_not_arrive_whole(tmp_path, server, small, capsys, where, said):
    if where == "nowhere/x":
        small["mnist"] = replace(small["mnist"], files=[replace(small["mnist"].files[0], url="http://x/none.gz")])
    assert main(["fetch", "mnist", "--root", str(tmp_path), "--from", f"{server}/{where}"]) == 1
    assert said in capsys.readouterr().err
    assert left(tmp_path) == []


def test_without_a_network_it_says_what_to_bring(tmp_path, small, capsys):
    assert main(["fetch", "cifar10", "--root", str(tmp_path), "--from", "http://127.0.0.1:9"]) == 1
    said, (file,) = capsys.readouterr().err, small["cifar10"].files
    for part in ("refused", file.url, file.sha256, f"{file.size_bytes:,} bytes", "--from FOLDER", "test_batch.bin"):
        assert part in said
    assert left(tmp_path) == []


def test_what_was_brought_in_a_folder_is_checked_and_taken(tmp_path, small):
    brought = tmp_path / "on a stick"
    brought.mkdir()
    for file in small["fashion_mnist"].files:
        (brought / file.name).write_bytes(FILES[file.name])
    assert main(["fetch", "fashion_mnist", "--root", str(tmp_path / "root"), "--from", str(brought)]) == 0
    assert left(tmp_path / "root") == ["fashion_mnist"]
    assert len(left(brought)) == 4


def test_a_dry_run_downloads_nothing(tmp_path, capsys):
    assert main(["fetch", "emnist", "mnist", "--root", str(tmp_path / "none"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for file in (*PUBLISHED["emnist"].files, *PUBLISHED["mnist"].files):
        assert f"{file.url}  {file.size_bytes:,} bytes  SHA-256 {file.sha256}" in said
    assert "emnist: 562 MB into" in said
    assert said.strip().endswith("nothing was downloaded")
    assert left(tmp_path / "none") == []


def test_an_unknown_set_is_named_with_the_closest(capsys):
    assert main(["fetch", "minst"]) == 1
    assert "fetch minst: no such set. Did you mean mnist?" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path, server, small):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written: .*--root FOLDER"):
        fetch(small["mnist"], tmp_path / "file" / "mnist", server, lambda url, size: lambda came: None)
