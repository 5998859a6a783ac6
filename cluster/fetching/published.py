"""Where the public data sets lie, with the size and the SHA-256 of every file."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PublishedFile:
    """A file as it is published.

    Attributes:
        url: where it lies.
        size_bytes: how long it is.
        sha256: its SHA-256, in hexadecimal.
        members: of an archive (``.tar.gz`` or ``.zip``), the paths in it that are taken out; empty: the file itself is
            what is wanted.
    """

    url: str
    size_bytes: int
    sha256: str
    members: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.url.rpartition("/")[2]

    @property
    def kept(self) -> list[str]:
        """Names of the files that it leaves in the folder of its set."""
        return [member.rpartition("/")[2] for member in self.members] or [self.name]


@dataclass(frozen=True)
class PublishedSet:
    """A data set as it is published.

    Attributes:
        name: by which ``data=`` knows it; that of its folder too.
        files: what is downloaded.
        remark: what is worth knowing of it, for people.
    """

    name: str
    files: Sequence[PublishedFile] = field(default_factory=tuple)
    remark: str = ""

    @property
    def kept(self) -> list[str]:
        """Names of the files in its folder."""
        return [name for file in self.files for name in file.kept]

    @property
    def size_bytes(self) -> int:
        """How much is downloaded."""
        return sum(file.size_bytes for file in self.files)


def _idx(base: str, *files: tuple[str, int, str]) -> tuple[PublishedFile, ...]:
    return tuple(PublishedFile(f"{base}/{name}-ubyte.gz", size, sha256) for name, size, sha256 in files)


_CIFAR = "https://www.cs.toronto.edu/~kriz"

PUBLISHED = {
    one.name: one
    for one in (
        PublishedSet(
            "mnist",
            _idx(
                "https://ossci-datasets.s3.amazonaws.com/mnist",
                (
                    "train-images-idx3",
                    9_912_422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                (
                    "train-labels-idx1",
                    28_881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
                (
                    "t10k-images-idx3",
                    1_648_877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                (
                    "t10k-labels-idx1",
                    4_542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            ),
        ),
        PublishedSet(
            "fashion_mnist",
            _idx(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                (
                    "train-images-idx3",
                    26_421_880,
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                ),
                (
                    "train-labels-idx1",
                    29_515,
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                ),
                (
                    "t10k-images-idx3",
                    4_422_102,
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                ),
                (
                    "t10k-labels-idx1",
                    5_148,
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ),
            ),
        ),
        PublishedSet(
            "emnist",
            (
                PublishedFile(
                    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
                    561_753_746,
                    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
                    tuple(
                        f"gzip/emnist-digits-{part}-{kind}-ubyte.gz"
                        for part in ("train", "test")
                        for kind in ("images-idx3", "labels-idx1")
                    ),
                ),
            ),
            "its digits are kept, of an archive with six splits",
        ),
        PublishedSet(
            "cifar10",
            (
                PublishedFile(
                    f"{_CIFAR}/cifar-10-binary.tar.gz",
                    170_052_171,
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                    tuple(
                        f"cifar-10-batches-bin/{name}"
                        for name in (
                            *(f"data_batch_{n}.bin" for n in range(1, 6)),
                            "test_batch.bin",
                            "batches.meta.txt",
                        )
                    ),
                ),
            ),
        ),
        PublishedSet(
            "cifar100",
            (
                PublishedFile(
                    f"{_CIFAR}/cifar-100-binary.tar.gz",
                    168_513_733,
                    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                    tuple(f"cifar-100-binary/{name}" for name in ("train.bin", "test.bin", "fine_label_names.txt")),
                ),
            ),
        ),
    )
}
"""The sets that ``strata fetch`` knows, by name: all that ``data=`` knows by a name of their own."""
