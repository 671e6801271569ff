"""Atomic writing of image files: to a temporary file, which is then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from trainkit.files import atomic_path, write_bytes

HIGHEST_IN_16_BITS = np.iinfo(np.uint16).max
# Bytes of samples from which a TIFF is written as BigTIFF.
_CLASSIC_LIMIT = 2**31
# Side in pixels of the chunks of an OME-Zarr label image.
_BAND = 512
# Folders within folders, as OME-Zarr 0.4 recommends.
_NESTED_CHUNKS = {"name": "v2", "separator": "/"}


def write_labels(path: str | os.PathLike, labels: np.ndarray, pixel_size: float | None = None) -> None:
    """Writes a label image.

    A TIFF states the size of a pixel, where it is known, as ImageJ does, and beyond uint16, which is the widest whole
    number that ImageJ knows, as OME-XML.

    Args:
        path: Path of the file; `.png` for a 16-bit PNG, `.tif` or `.tiff` for a compressed TIFF of uint16, or of int32
            if a label exceeds 65,535; `.zarr` for an OME-Zarr folder of int32.
        labels: Integer `[H, W]`, not negative.
        pixel_size: Side of a pixel in µm, for a TIFF; None where it is not known.

    Raises:
        ValueError: The suffix is unknown, a label does not fit into a PNG, or zarr is missing.
        OSError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    highest = int(labels.max(initial=0))
    if suffix == ".zarr":
        bands = (labels[top : top + _BAND] for top in range(0, len(labels), _BAND))
        _write_zarr_bands(Path(path), bands, labels.shape, pixel_size, _BAND)
        return
    if suffix not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{path}: a label image is written as .png, .tif, .tiff or .zarr.")
    if suffix == ".png" and highest > HIGHEST_IN_16_BITS:
        raise ValueError(f"{path}: label {highest} does not fit into a 16-bit PNG; write a TIFF.")
    pixels = labels.astype(np.uint16 if highest <= HIGHEST_IN_16_BITS else np.int32)
    if suffix == ".png":
        _write_png(path, pixels)
        return
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, pixels, compression="zlib", **_stated_size(pixels.dtype, pixel_size))


def _stated_size(dtype: np.dtype, pixel_size: float | None) -> dict[str, Any]:
    """Returns the options with which tifffile states the size of a pixel."""
    if pixel_size is None:
        return {}
    if dtype == np.uint16:
        return {"imagej": True, "resolution": (1 / pixel_size, 1 / pixel_size), "metadata": {"unit": "um"}}
    sizes = {f"PhysicalSize{axis}": pixel_size for axis in "XY"}
    return {"ome": True, "metadata": sizes | {f"{name}Unit": "µm" for name in sizes}}


def write_label_stack(
    path: str | os.PathLike,
    planes: Iterable[np.ndarray],
    shape: tuple[int, int, int, int],
    dtype: np.dtype,
    pixel_size: float | None = None,
) -> None:
    """Writes label images of several frames and planes as one compressed OME-TIFF.

    Args:
        path: Path of the file.
        planes: Label images `[H, W]`, plane by plane of the first frame, then those of the second, and so on.
        shape: Numbers of frames, planes, rows and columns.
        dtype: uint16 or int32.
        pixel_size: Side of a pixel in µm; None where it is not known.

    Raises:
        OSError: The file cannot be written.
    """
    metadata: dict[str, object] = {"axes": "TZYX"}
    if pixel_size is not None:
        metadata |= {"PhysicalSizeX": pixel_size, "PhysicalSizeY": pixel_size}
        metadata |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            iter(planes),
            shape=shape,
            dtype=dtype,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            metadata=metadata,
        )


def write_label_bands(
    path: str | os.PathLike, bands: Iterable[np.ndarray], shape: tuple[int, int], pixel_size: float | None, rows: int
) -> None:
    """Writes a label image of which only a band of rows is in memory, each band before the next one is asked for.

    Args:
        path: Path of the file: `.tif` or `.tiff` for a compressed TIFF of int32 in tiles, BigTIFF where the samples
            exceed 2 GB, or `.zarr` for an OME-Zarr folder (version 0.4), which needs zarr. It appears under its name
            when it is complete.
        bands: int32 `[rows, W]` from top to bottom; the last one may have fewer rows.
        shape: (height, width) of the label image.
        pixel_size: Side of a pixel in µm; None where it is not known.
        rows: Rows of a band, and side of the tiles; a multiple of 16.

    Raises:
        ValueError: zarr is missing.
        OSError: The file cannot be written.
    """
    if Path(path).suffix.lower() == ".zarr":
        _write_zarr_bands(Path(path), bands, shape, pixel_size, rows)
        return

    def tiles() -> Iterator[np.ndarray]:
        for band in bands:
            padded = np.pad(band, ((0, rows - len(band)), (0, -band.shape[1] % rows)))
            yield from np.split(padded, padded.shape[1] // rows, axis=1)

    resolution = {}
    if pixel_size is not None:
        resolution = {"resolution": (1e4 / pixel_size, 1e4 / pixel_size), "resolutionunit": "CENTIMETER"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            tiles(),
            shape=shape,
            dtype=np.int32,
            tile=(rows, rows),
            compression="zlib",
            photometric="minisblack",
            # Compressed bands may together exceed what a plain TIFF can address, which is known only at the end.
            bigtiff=shape[0] * shape[1] * np.dtype(np.int32).itemsize > _CLASSIC_LIMIT,
            metadata=None,
            # With more, many bands would be asked for before the first is written.
            maxworkers=1,
            **resolution,
        )


def _write_zarr_bands(
    path: Path,
    bands: Iterable[np.ndarray],
    shape: tuple[int, int],
    pixel_size: float | None,
    rows: int,
) -> None:
    try:
        import zarr
    except ImportError as error:
        raise ValueError(f"{path}: OME-Zarr needs zarr: pip install 'keras-nucleus[zarr]' ({error})") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=2)
        options = {"dtype": "int32", "chunk_key_encoding": _NESTED_CHUNKS}
        array = group.create_array("0", shape=shape, chunks=(rows, rows), **options)
        for number, band in enumerate(bands):
            array[number * rows : number * rows + len(band)] = band
        _describe_zarr(group, pixel_size)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.filename is not None and not str(error.filename).startswith(str(temporary)):
            raise
        # It names a chunk in the temporary folder, or nothing.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _describe_zarr(group: Any, pixel_size: float | None) -> None:
    """Writes the axes and the size of a pixel into the attributes of a group with one label image."""
    unit = {} if pixel_size is None else {"unit": "micrometer"}
    scale = {"type": "scale", "scale": [1.0 if pixel_size is None else pixel_size] * 2}
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
            "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        }
    ]
    group.attrs["image-label"] = {"version": "0.4"}


def write_rgb(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes an RGB image as a PNG.

    Args:
        path: Path of the file, ending in `.png`.
        image: uint8 `[H, W, 3]` RGB.

    Raises:
        OSError: The file cannot be written.
    """
    _write_png(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _write_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    # Not imwrite, which ends the program where a name is no UTF-8.
    encoded, data = cv2.imencode(".png", pixels)
    if not encoded:
        raise OSError(f"{path}: OpenCV could not write the image.")
    write_bytes(path, data.data)
