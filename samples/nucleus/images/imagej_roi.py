"""Regions of interest (ROIs) of ImageJ and Fiji, `.roi` and `.zip`: label images to files, and files to pixels.

Read and written by the package roifile, of the extra `exchange`.
"""

from __future__ import annotations

import importlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nucleus.images.decoding import ImageFileError
from nucleus.images.polygons import Polygon, fill, fill_ellipse, trace
from trainkit.files import atomic_path

if TYPE_CHECKING:
    from roifile import ImagejRoi

# Commands of a path: begin a ring, draw a line, close the ring.
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
# ImageJ stores coordinates in 16 bits, of which those below -5000 stand for ones above 32,767.
_HIGHEST_COORDINATE = 60_535
# A file of a ROI is small; a larger one was made to fill the memory.
_LARGEST_ROI = 2**26


def import_roifile() -> ModuleType:
    """Imports roifile.

    Raises:
        ValueError: It is not installed; the message names the extra.
    """
    try:
        return importlib.import_module("roifile")
    except ModuleNotFoundError as error:
        raise ValueError(
            f'ROIs of ImageJ need the package roifile: pip install "keras-nucleus[exchange]", or roifile ({error}).'
        ) from error


def write_rois(path: str | os.PathLike, labels: np.ndarray, scores: np.ndarray | None = None) -> None:
    """Writes a ZIP file for ImageJ's ROI manager with a ROI for each label, which is called by its number.

    A nucleus of one piece without holes is a traced ROI, any other a composite one. Reading the file gives the same
    pixels.

    Args:
        path: Path of the file, ending in `.zip`.
        labels: Integer `[H, W]`, label image.
        scores: float `[N]`, stored as a property of the ROI of label k + 1; None for none.

    Raises:
        ValueError: roifile is not installed, or the image is larger than ImageJ's format allows.
        OSError: The file cannot be written.
    """
    if max(labels.shape) > _HIGHEST_COORDINATE:
        raise ValueError(f"{path}: ROIs of ImageJ reach up to {_HIGHEST_COORDINATE} pixels. Received: {labels.shape}")
    roifile = import_roifile()
    outlines = trace(labels)
    digits = max(4, len(str(len(outlines))))
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, polygons in enumerate(outlines, start=1):
            if not polygons:
                continue
            roi = _roi(roifile, polygons)
            roi.name = f"{number:0{digits}}"
            roi.props = f"label: {number}\n" + ("" if scores is None else f"score: {scores[number - 1]:.7g}\n")
            # A fixed date, so that equal results are equal files.
            archive.writestr(zipfile.ZipInfo(f"{roi.name}.roi"), roi.tobytes(), zipfile.ZIP_DEFLATED)


def read_rois(path: str | os.PathLike, shape: tuple[int, int]) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Reads the ROIs of a file as pixels, by ImageJ's rule: those whose centres are inside.

    Args:
        path: A `.roi` file, or a `.zip` file of them.
        shape: (height, width) of the image.

    Returns:
        areas: (name, int64 `[P]` indices into the flattened image) of each ROI, in the order of the file.
        others: Names of the ROIs that are no areas: points, lines, angles and texts.

    Raises:
        ImageFileError: The file cannot be read, holds files but no ROI, or ROIs of several planes or frames.
        ValueError: roifile is not installed.
    """
    path, roifile = Path(path), import_roifile()
    areas, others, planes = [], [], set()
    for name, data in _members(path):
        try:
            roi = roifile.ImagejRoi.frombytes(data)
            pixels = _pixels(roifile, roi, shape)
        except Exception as error:  # A damaged ROI can fail anywhere in the parser.
            raise ImageFileError(f"{path}, {name}: the ROI is damaged or of an unknown kind ({error})") from error
        name = roi.name or name
        if pixels is None:
            others.append(name)
            continue
        planes.add((roi.z_position, roi.t_position) if roi.z_position or roi.t_position else roi.position)
        areas.append((name, pixels))
    if len(planes - {0}) > 1:
        raise ImageFileError(
            f"{path}: its ROIs are of several planes or frames; save those of each in a file of its own"
        )
    return areas, others


def _members(path: Path) -> list[tuple[str, bytes]]:
    """Returns the names and contents of the ROIs in a file."""
    try:
        if path.suffix.lower() != ".zip":
            return [(path.stem, path.read_bytes())]
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
            entries = [entry for entry in files if entry.filename.lower().endswith(".roi")]
            if any(entry.file_size > _LARGEST_ROI for entry in entries):
                raise ImageFileError(f"{path}: a ROI is larger than {_LARGEST_ROI // 2**20} MiB")
            members = [(Path(entry.filename).stem, archive.read(entry)) for entry in entries]
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ImageFileError:
        raise
    except Exception as error:  # zipfile raises many kinds for damaged files.
        raise ImageFileError(f"{path}: is no ZIP file, or is damaged ({error})") from error
    # A file without anything is that of an image without nuclei.
    if files and not members:
        raise ImageFileError(f"{path}: no ROI is in it")
    return members


def _roi(roifile: ModuleType, polygons: Sequence[Polygon]) -> ImagejRoi:
    rings = [ring for polygon in polygons for ring in polygon]
    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0])
        roi.roitype = roifile.ROI_TYPE.TRACED
    else:
        roi = roifile.ImagejRoi()
        roi.roitype = roifile.ROI_TYPE.RECT
        path = [_path(ring) for ring in rings]
        roi.multi_coordinates = np.concatenate(path).astype(np.float32)
        roi.shape_roi_size = len(roi.multi_coordinates)
    low, high = (
        np.min([ring.min(axis=0) for ring in rings], axis=0),
        np.max([ring.max(axis=0) for ring in rings], axis=0),
    )
    (roi.left, roi.top), (roi.right, roi.bottom) = low.tolist(), high.tolist()
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    steps = np.column_stack([np.full(len(ring), _LINE), ring])
    steps[0, 0] = _MOVE
    return np.append(steps.ravel(), _CLOSE)


def _pixels(roifile: ModuleType, roi: ImagejRoi, shape: tuple[int, int]) -> np.ndarray | None:
    """Returns the pixels of a ROI; None if it is no area."""
    kinds, subtypes = roifile.ROI_TYPE, roifile.ROI_SUBTYPE
    if roi.subtype in (subtypes.TEXT, subtypes.ARROW, subtypes.IMAGE):
        return None
    if roi.composite:
        return fill([ring for ring in roi.coordinates(multi=True) if len(ring) > 2], shape)
    # ImageJ stores its ellipses and turned rectangles as freehand lines, too.
    if roi.roitype in (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED):
        return fill([roi.coordinates()], shape)
    if roi.roitype not in (kinds.RECT, kinds.OVAL):
        return None
    left, top, width, height = roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top
    if roi.subpixelrect:
        left, top, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    if roi.roitype == kinds.OVAL:
        return fill_ellipse((left + width / 2, top + height / 2), (width / 2, height / 2), 0.0, shape)
    corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
    return fill([np.array(corners, np.float64)], shape)
