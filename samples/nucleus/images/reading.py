"""Reading of image files as uint8 [H, W, 3] RGB, of mask files and of label images.

The rules, in one place:

* PNG, TIFF, JPEG and BMP are read; CZI, ND2 and LIF where the extra `formats` is installed, OME-Zarr where `zarr` is,
  and whole slides (SVS, NDPI, MRXS and others) where `slides` is. The format is detected from the file's first bytes,
  never from its name, but for MRXS.
* Greyscale, 1-bit and palette images become RGB. An alpha channel is dropped, not blended: it has no meaning in
  microscopy. 1-bit images become 0 and 255.
* CMYK becomes RGB without a colour profile: the transmittances of each ink and of black, multiplied.
* 8-bit samples are kept as they are. All others (16-bit, 32-bit, float) are scaled linearly so that the image's own
  0.1th percentile becomes 0 and its 99.9th percentile 255, with one scale for all channels, and clipped. If both
  percentiles are equal, as in a very sparse image, it is scaled from its minimum to its maximum; a constant image is
  black. Samples that are not finite become 0.
* Channels, planes of a stack, frames of a time series and scenes (separate images in a file) are those that OME-XML,
  ImageJ or the plain shape of a TIFF, or a microscope's own format state. Red, green and blue samples of a pixel are a
  colour image, and a single channel is a grey one. Of several channels (GFP, DAPI, ...), planes, frames or scenes the
  chosen one is read; without a choice the file is refused, and the error lists what it holds. Three chosen channels
  become red, green and blue. Several samples of a pixel in a TIFF that states to be grey are channels. Pages whose
  meaning the file does not state are planes, or channels where one is chosen. Of several separate images that a TIFF
  does not name (a thumbnail) the first is read, of a pyramid its largest level. Of an OME data set in several files the
  first file is, and stands for all.
* A TIFF with fewer strips or tiles than its size needs is refused. Those that it states to be empty (GDAL's sparse
  files) are read as 0, and a warning counts them.
* An image of more than 2^29 pixels is refused before it is decoded whole; `--max-pixels` or the environment variable
  NUCLEUS_MAX_PIXELS sets another limit, 0 none.
* Pixels are taken in stored order: an EXIF orientation is ignored, as masks are drawn on stored pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from nucleus.images.decoding import FIRST, NO_CHOICE, Place, Planes, RawImage, decode, naming, open_image
from nucleus.images.decoding import ImageFileError as ImageFileError
from nucleus.images.decoding.ome_zarr import is_zarr
from trainkit.pixels import Scale, measure_scale

IMAGE_SUFFIXES = (
    ".png",
    ".tif",
    ".tiff",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".czi",
    ".nd2",
    ".lif",
    ".svs",
    ".ndpi",
    ".mrxs",
    ".zarr",
)

_HIGHEST_LABEL = np.iinfo(np.int32).max


def read_image(
    path: str | os.PathLike,
    channel: str | int | Sequence[str | int] | None = None,
    plane: int | Literal["all"] | None = None,
    project: Literal["max", "mean"] | None = None,
    frame: int | Literal["all"] | None = None,
    scene: str | int | None = None,
) -> np.ndarray:
    """Reads an image file of any mode.

    Examples:
        >>> from nucleus.datasets.dataset import shipped_data
        >>> path = next(shipped_data().glob("stage1_train/*/images/*.png"))
        >>> image = read_image(path)
        >>> image.dtype, image.ndim, image.shape[2]
        (dtype('uint8'), 3, 3)

    Args:
        path: An image file.
        channel: Name or number (from 1 on) of the channel to read, or three for red, green and blue.
        plane: Number of the plane of a stack, from 1 on, or "all".
        project: Projection of all planes of a stack instead: "max" or "mean".
        frame: Number of the frame of a time series, from 1 on, or "all".
        scene: Name or number (from 1 on) of one of several separate images in the file.

    Returns:
        uint8 [H, W, 3], RGB, by the rules at the top of this module. With "all", uint8 [N, H, W, 3]: all planes, or
        frames, or the planes of the first frame, then those of the second, and so on.

    Raises:
        ImageFileError: The file is missing, empty, truncated, damaged, has no pixels, or has an unknown format; it
            holds several channels, planes, frames or scenes of which none is chosen; or it does not hold the chosen
            ones.
        ValueError: The choice is malformed.
    """
    planes = Planes(channel, plane, project, frame, scene)
    if not planes.several:
        return read_rgb(path, planes)
    return np.stack([read_rgb(path, planes.at(place)) for place in read_places(path, planes)])


def read_rgb(path: str | os.PathLike, planes: Planes = NO_CHOICE) -> np.ndarray:
    """Reads one image of a file; see `read_image`.

    Args:
        path: An image file.
        planes: Choice of channel, plane, frame and scene.

    Raises:
        ImageFileError: The file cannot be read, or the choice does not fit it.
    """
    return to_rgb(decode(Path(path), "image", planes).visible())


def read_raw(path: str | os.PathLike, planes: Planes = NO_CHOICE) -> RawImage:
    """Reads the samples of an image file as they are stored, of all its channels.

    Args:
        path: An image file.
        planes: Choice of plane, frame and scene, and of the channels that are shown to a network.

    Raises:
        ImageFileError: The file cannot be read, or the choice does not fit it; see `read_image`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = cv2.imwrite(f"{folder}/a.png", np.full((20, 30), 4000, np.uint16))
        ...     raw = read_raw(f"{folder}/a.png")
        >>> raw.pixels.dtype, raw.pixels.shape[:2], int(raw.pixels.max())
        (dtype('uint16'), (20, 30), 4000)
    """
    return decode(Path(path), "image", planes, every_channel=True)


def read_places(path: str | os.PathLike, planes: Planes) -> list[Place]:
    """Lists the images that a choice with "all" takes of a file.

    Args:
        path: An image file.
        planes: The choice.

    Raises:
        ImageFileError: The file cannot be read.
    """
    with naming(Path(path)), open_image(Path(path), "image", planes) as image:
        return planes.places(Path(path).stem, image.frames, image.planes)


def read_shape(path: str | os.PathLike, planes: Planes = FIRST) -> tuple[int, int]:
    """Returns the height and width of an image file, which all its channels, planes and frames share.

    Args:
        path: An image file.
        planes: Choice of the scene, which may have another size than others.

    Raises:
        ImageFileError: The file cannot be read.
    """
    with naming(Path(path)), open_image(Path(path), "image", planes) as image:
        return image.shape


def read_pixel_size(path: str | os.PathLike, planes: Planes = FIRST) -> float | None:
    """Returns the side of a pixel of an image file in µm; None where the file does not say it.

    Args:
        path: An image file.
        planes: Choice of the scene.

    Raises:
        ImageFileError: The file cannot be read.
    """
    with naming(Path(path)), open_image(Path(path), "image", planes) as image:
        return image.pixel_size()


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Reads a mask file: every pixel with a non-zero grey value or colour belongs to the mask.

    Args:
        path: An image file. An alpha channel is ignored; a stored 0 is outside the mask even in a TIFF
            that shows 0 as white.

    Returns:
        bool [H, W].

    Raises:
        ImageFileError: The file is missing, empty, truncated, damaged, has no pixels, or has an unknown format.
    """
    return (decode(Path(path), "mask").pixels != 0).any(axis=-1)


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Reads a label image written by this project or by another program.

    Examples:
        >>> import tempfile
        >>> from nucleus.images.writing import write_labels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_labels(f"{folder}/cells.png", np.array([[0, 1], [300, 300]], np.int32))
        ...     read_labels(f"{folder}/cells.png")
        array([[  0,   1],
               [300, 300]], dtype=int32)

    Args:
        path: A PNG, TIFF or BMP file of whole numbers, which may be stored as floats. The stored numbers are read, not
            their colours: the indices of a palette, and 0 for white in a TIFF that shows 0 as white. One of three equal
            channels is read; alpha is dropped.

    Returns:
        int32 [H, W], 0 background; the numbers are those of the file.

    Raises:
        ImageFileError: The file is missing, empty, truncated, damaged, has no pixels, or has an unknown format; is a
            JPEG, whose losses would change labels; or has channels that differ, fractions, negative numbers or numbers
            above the highest int32.
    """
    pixels = decode(Path(path), "labels").visible()
    what = f"{path}: no label image but {pixels.dtype} pixels of shape {pixels.shape}"
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise ImageFileError(f"{what}, whose channels differ: save each nucleus' number in one channel")
        pixels = pixels[..., 0]
    if np.issubdtype(pixels.dtype, np.floating) and not (np.isfinite(pixels) & (pixels == np.rint(pixels))).all():
        raise ImageFileError(f"{what}, which are no whole numbers")
    if pixels.min() < 0:
        raise ImageFileError(f"{what}, of which some are negative")
    if pixels.max() > _HIGHEST_LABEL:
        raise ImageFileError(f"{path}: a label is above {_HIGHEST_LABEL}")
    return pixels.astype(np.int32)


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Lists the image files and OME-Zarr folders (by suffix) in a folder, sorted by name, without hidden ones."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and is_image_path(path)
    )


def is_image_path(path: Path) -> bool:
    """Returns True if a path is a file, or a folder that is one image (OME-Zarr).

    Args:
        path: The path.
    """
    return path.is_file() or is_zarr(path)


def list_folders(folder: str | os.PathLike) -> list[Path]:
    """Lists the folders directly in a folder, sorted by name, without hidden ones."""
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")


def to_rgb(pixels: np.ndarray, scale: Scale | None = None) -> np.ndarray:
    """Converts decoded samples to 8-bit RGB.

    Examples:
        >>> sixteen_bits = np.array([[0, 400], [1000, 1000]], np.uint16)
        >>> to_rgb(sixteen_bits)[..., 0]
        array([[  0, 102],
               [255, 255]], dtype=uint8)

    Args:
        pixels: [H, W] grey or [H, W, 3] RGB samples of any real dtype.
        scale: Scale of samples of more than 8 bits, for a part of an image; by default that of `pixels`.

    Returns:
        uint8 [H, W, 3], by the rules at the top of this module; 8-bit RGB is returned itself, not a copy.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype != np.uint8:
        pixels = (scale or measure_scale(pixels)).apply(pixels)
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels
