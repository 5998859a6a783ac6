"""Small sets in the published formats, written byte by byte."""

import gzip
import struct

import numpy as np
import pytest

IDX_CODES = {"u1": 0x08, "i4": 0x0C, "f4": 0x0D}


@pytest.fixture
def write_idx():
    def write(path, array):
        head = bytes([0, 0, IDX_CODES[array.dtype.str[1:]], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)

    return write


@pytest.fixture
def write_cifar():
    """Write records of random pixels; the last label byte is the class. Returns the pixels (N, 3, 32, 32)."""

    def write(path, labels, label_bytes=1):
        pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
        records = [
            bytes([7] * (label_bytes - 1) + [label]) + image.tobytes()
            for label, image in zip(labels, pixels, strict=True)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(records))
        return pixels

    return write


@pytest.fixture
def owned_rows():
    """All rows of all clients, after checking that each client has both sides and no row has two owners."""

    def check(clients, rows):
        owned = np.concatenate([np.concatenate([client.train, client.test]) for client in clients])
        assert len(np.unique(owned)) == len(owned)
        assert owned.min() >= 0
        assert owned.max() < rows
        assert all(len(client.train) and len(client.test) for client in clients)
        assert all(client.train.dtype == client.test.dtype == np.int64 for client in clients)
        return owned

    return check
