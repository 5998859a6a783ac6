"""Sets through Hugging Face ``datasets``, an optional extra: from the hub, or a local parquet, jsonl or csv file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.pictures import stack_pictures
from strata.engine.data.sources.raw import Raw, client_names, split_flags
from strata.engine.data.sources.tables import from_frame, input_columns, split_files, target_columns
from strata.engine.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset as Table

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
TEST_SPLITS = ("test", "validation", "valid", "val")


def read_hub(name: str, root: Path, config: DataConfig) -> Raw:
    """Load ``OWNER/NAME``, ``OWNER/NAME/CONFIG`` or a local file, and read its columns.

    An image column, where there is one, is the only input (unless ``data.inputs`` says otherwise): uint8
    ``(N, C, H, W)``. Other columns are encoded as in :func:`strata.engine.data.sources.tables.from_frame`. The split
    ``test``, else ``validation``, is the published test split; ``train`` is the rest (all other splits where there is
    no ``train``).

    Args:
        name: what follows ``hub:`` in ``data.name``.
        root: where downloads are kept, in ``.hub``.
        config: names the target, input and client columns.

    Raises:
        DataError: if the extra is not installed, the set cannot be had, or a column is not there.
    """
    splits = _load(name, root / ".hub")
    test_name = next((split for split in TEST_SPLITS if split in splits), None) if len(splits) > 1 else None
    train_names = ["train"] if "train" in splits else [split for split in splits if split != test_name]
    names = [*train_names, *([test_name] if test_name else [])]
    joined = _datasets().concatenate_datasets([splits[split] for split in names])
    train = sum(len(splits[split]) for split in train_names)
    raw = _columns(joined, split_flags(train, len(joined) - train), config, f"hub:{name}")
    left = [split for split in splits if split not in names]
    said = raw.remarks.warned(f"hub:{name}: of its splits {', '.join(left)} is not read.") if left else raw.remarks
    return replace(raw, remarks=said)


def _datasets() -> Any:
    """The module ``datasets`` of Hugging Face, imported only where it is needed.

    Raises:
        DataError: if it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            'data.name=hub:... needs Hugging Face datasets, which is not installed: pip install "strata-fl[hub]".'
        ) from error
    return datasets


def _load(name: str, cache: Path) -> "dict[str, Table]":
    """Return the splits of a set by name."""
    library = _datasets()
    path = Path(name).expanduser()
    _refuse_folder(name, path)
    try:
        if path.suffix.lower() in BUILDERS and path.is_file():
            train, test = split_files(path, [path.suffix])
            files = {"train": str(train)} | ({"test": str(test)} if test else {})
            return dict(library.load_dataset(BUILDERS[path.suffix.lower()], data_files=files, cache_dir=str(cache)))
        owner, short_name, *subset = [*name.split("/", 2), ""][: max(2, name.count("/") + 1)]
        identifier = f"{owner}/{short_name}" if short_name else owner
        return dict(library.load_dataset(identifier, *subset, cache_dir=str(cache)))
    except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise DataError(
            f"hub:{name} cannot be loaded ({type(error).__name__}: {error}). Check the name and the network, or lay "
            "the files in a local folder and name that in data.name."
        ) from error


def _refuse_folder(name: str, path: Path) -> None:
    """Refuse a path on this machine that is none of :data:`BUILDERS`' files: its parts would be taken for names."""
    if path.suffix.lower() in BUILDERS and path.is_file():
        return
    if path.is_absolute() or name.startswith((".", "~")) or not all(name.split("/")):
        files = ", ".join(BUILDERS)
        raise DataError(
            f"hub:{name}: expected hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, or a file that exists ({files}). A folder of "
            f"this machine is named without hub:, as data.name={name}."
        )


def _columns(rows: "Table", test: NDArray[np.bool_] | None, config: DataConfig, where: str) -> Raw:
    features = rows.features
    columns = list(features)
    targets = target_columns(columns, config, where)
    inputs = input_columns(columns, config, where)
    images = [column for column in inputs if isinstance(features[column], _datasets().Image)]
    names = getattr(features[targets[0]], "names", ()) if len(targets) == 1 else targets
    if not images:
        return from_frame(rows.to_pandas(), test, config, where, names)
    if len(images) > 1 or (config.inputs and len(inputs) > 1):
        raise DataError(f"{where}: an image is the only input a set can have. Set data.inputs to one of: {images}.")
    absent = sum(picture is None for picture in rows[images[0]])
    if absent:
        raise DataError(f"{where}: {absent} of {len(rows)} rows have no picture in {images[0]!r}. Remove those rows.")
    x, remarks = stack_pictures(rows[images[0]], [f"{where} row {row}" for row in range(len(rows))], config.resize)
    named = config.client_column
    natural, said = client_names(np.array(rows[named][:], object) if named else None, where)
    remarks += said
    return Raw(
        x=x,
        labels=np.stack([np.array(rows[column][:]) for column in targets], 1)[
            :, 0 if len(targets) == 1 else slice(None)
        ],
        test=test,
        natural=natural,
        names=names,
        remarks=remarks,
    )
