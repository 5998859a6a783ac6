"""Pictures of one size as an array: of 8 bits a channel, or grey ones of more bits.

# N samples, C channels, H height, W width
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from strata.engine.data.capacity import require_memory
from strata.engine.data.remarks import Remarks
from strata.engine.errors import DataError

GREY, WHOLE, REAL, COLOUR = "L", "I", "F", "RGB"
"""Modes that pictures are brought to: grey of 8 bits, grey of up to 32 bits, grey of fractions, and colours."""

DEPTHS = {GREY: "8 bits", COLOUR: "8 bits", WHOLE: "16 bits or more", REAL: "fractions"}

BROKEN = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture, or a damaged or huge one."""


TURNS: Mapping[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""


@dataclass(frozen=True)
class _Shot:
    """A picture in one of the four modes, and whether it had transparent pixels, further frames, or was turned."""

    picture: Image.Image
    transparent: bool
    animated: bool
    turned: bool


def read_pictures(files: Sequence[Path], side: int) -> tuple[NDArray[np.generic], Remarks]:
    """Read the pictures of some files, see :func:`stack_pictures`.

    Raises:
        DataError: if one cannot be read, or they do not go together.
    """
    _require_room(len(files), side)
    return _stacked([_opened(file, side) for file in files], [str(file) for file in files], side)


def stack_pictures(
    pictures: Iterable[Image.Image], names: Sequence[str], side: int
) -> tuple[NDArray[np.generic], Remarks]:
    """Stack pictures to ``(N, C, H, W)``: one channel where all are grey, else the three of RGB.

    They are uint8; grey pictures of more bits are uint16 or int32, and those of fractions float32. Those with an EXIF
    tag of orientation are turned as it says.

    Args:
        pictures: as Pillow reads them.
        names: what each is called in errors.
        side: pixels on either side that all are resized to (bilinear); 0: they stay as they are.

    Raises:
        DataError: if they differ in size or in depth; ``names`` say which one does.
    """
    _require_room(len(names), side)
    return _stacked([_shot(picture, side) for picture in pictures], names, side)


def _require_room(count: int, side: int) -> None:
    require_memory(
        2 * count * side**2,  # as pictures, and as an array
        f"{count:,} pictures of data.resize={side} pixels on either side",
        "Lower it.",
    )


def _opened(file: Path, side: int) -> _Shot:
    try:
        with Image.open(file) as picture:
            # A file with a name is mapped by Pillow, which then mixes the rows of a TIFF that lies on its side.
            picture.filename = ""
            return _shot(picture, side)
    except BROKEN as error:
        raise DataError(f"{file} cannot be read as a picture ({error}). Remove or replace it.") from error


def _shot(picture: Image.Image, side: int) -> _Shot:
    # Cameras and phones write what they see as their sensor lies, and beside it how to turn that. Pillow turns a TIFF
    # by itself as it is loaded.
    told = _orientation(picture)
    picture.load()
    still = _orientation(picture)
    upright = picture.transpose(TURNS[still]) if still in TURNS else picture
    turned = told in TURNS or still in TURNS
    made = upright.convert(_mode(upright))
    resized = made.resize((side, side), Image.Resampling.BILINEAR) if side else made
    return _Shot(resized, _transparent(upright), getattr(picture, "is_animated", False), turned)


def _orientation(picture: Image.Image) -> object:
    """What a picture's EXIF block says of how it lies; 1, upright, where it says nothing that can be read."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged block raises many things, and the picture is whole without it
        return 1


def _stacked(shots: Sequence[_Shot], names: Sequence[str], side: int) -> tuple[NDArray[np.generic], Remarks]:
    plain = [shot.picture for shot in shots]
    _check_alike(plain, names)
    grey = all(picture.mode != COLOUR for picture in plain)
    arrays = np.stack([np.asarray(picture if grey else picture.convert(COLOUR)) for picture in plain])
    if arrays.dtype == np.int32 and arrays.min() >= 0 and arrays.max() < 2**16:
        arrays = arrays.astype(np.uint16)
    remarks = Remarks().noted(f"pictures are resized to {side}×{side} pixels (data.resize)") if side else Remarks()
    greys = sum(picture.mode != COLOUR for picture in plain)
    if greys and not grey:
        remarks = remarks.noted(
            f"{greys} of {len(plain)} pictures are grey, the others coloured: all have three channels"
        )
    turned = [name for shot, name in zip(shots, names, strict=True) if shot.turned]
    if turned:
        remarks = remarks.noted(
            f"{len(turned)} pictures are turned as their EXIF tag of orientation says (the first is {turned[0]})"
        )
    frames = [name for shot, name in zip(shots, names, strict=True) if shot.animated]
    if frames:
        remarks = remarks.warned(
            f"{len(frames)} pictures have several frames or pages (the first is {frames[0]}): only the first of "
            "each is read."
        )
    alpha = [name for shot, name in zip(shots, names, strict=True) if shot.transparent]
    if alpha:
        remarks = remarks.warned(
            f"{len(alpha)} pictures have transparent pixels (the first is {alpha[0]}): alpha is left out, so the "
            "colours beneath it count."
        )
    return (arrays[:, None] if grey else np.ascontiguousarray(arrays.transpose(0, 3, 1, 2))), remarks


def _mode(picture: Image.Image) -> str:
    if picture.mode in ("1", "L", "LA"):
        return GREY
    return WHOLE if picture.mode.startswith("I") else REAL if picture.mode == "F" else COLOUR


def _transparent(picture: Image.Image) -> bool:
    """Whether a pixel of a picture is not wholly opaque."""
    if picture.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in picture.info:
        return False
    return bool(np.asarray(picture.convert("RGBA"))[..., 3].min() < 255)


def _check_alike(pictures: Sequence[Image.Image], names: Sequence[str]) -> None:
    """Refuse pictures of different sizes, and such as have different numbers of bits."""
    first = pictures[0]
    for picture, name in zip(pictures, names, strict=True):
        if picture.size != first.size:
            raise DataError(
                f"{name} is {picture.width}×{picture.height} pixels, {names[0]} is {first.width}×{first.height}. "
                "Set data.resize=SIDE, such as data.resize=32, to resize all of them, or resize the files first."
            )
        if DEPTHS[picture.mode] != DEPTHS[first.mode]:
            raise DataError(
                f"{name} has {DEPTHS[picture.mode]} a pixel, {names[0]} {DEPTHS[first.mode]}. Convert the pictures to "
                "one depth first."
            )
