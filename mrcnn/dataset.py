"""Base class of data sets: the images, their classes, and the way to load them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import skimage.io
import tifffile

from trainkit.pixels import to_uint8
from trainkit.reading import reading
from trainkit.tiff import count_empty_parts

_log = logging.getLogger(__name__)

# Kinds of extra samples in a TIFF that are alpha: associated and unassociated (TIFF 6.0, section 18).
_ALPHA = (1, 2)


class Dataset:
    """A data set of images and the instances in them.

    Subclass it, register classes and images with `add_class` and `add_image`, override `load_mask` (and
    `load_labels`, which is much faster where instances do not overlap, and `load_image` for other file
    formats), and call `prepare` before use:

        class CellDataset(Dataset):
            def load_cells(self, folder):
                self.add_class("cells", 1, "cell")
                for path in sorted(Path(folder).glob("*.png")):
                    self.add_image("cells", image_id=path.stem, path=str(path))

            def load_mask(self, image_id):
                ...

    Classes and images have two identifiers: the source's own, and an internal one that counts from 0 in the
    order of registration. Class 0 is the background.

    Attributes:
        class_info: A dictionary with the keys source, id and name for every class.
        image_info: A dictionary with the keys id, source, path and those given to `add_image` for every image.
        num_classes: Number of classes with the background; from `prepare` on, like all that follow.
        class_ids: int `[num_classes]`, the internal class identifiers.
        class_names: The name of every class, cut at the first comma.
        num_images: Number of images.
        class_from_source_map: "source.id" -> internal class identifier.
        image_from_source_map: "source.id" -> internal image identifier.
        sources: Names of the sources in the order of registration; the background's is "".
        source_class_ids: Source -> internal identifiers of its classes, background included.
    """

    def __init__(self, class_map: None = None):
        """Creates an empty data set.

        Args:
            class_map: None; part of the lineage's signature.
        """
        _refuse_class_map(class_map)
        self._image_ids = np.arange(0)
        self.image_info: list[dict[str, Any]] = []
        self.class_info: list[dict[str, Any]] = [{"source": "", "id": 0, "name": "BG"}]
        self.source_class_ids: dict[str, list[int]] = {}

    def add_class(self, source: str, class_id: int, class_name: str) -> None:
        """Registers a class, unless the source has registered it already.

        Args:
            source: Name of the source, without a dot.
            class_id: The source's identifier of the class.
            class_name: Display name of the class; `class_names` cuts it at the first comma.

        Raises:
            ValueError: The source's name contains a dot.
        """
        if "." in source:
            raise ValueError(f"A source's name cannot contain a dot. Received: source={source!r}")
        if any(info["source"] == source and info["id"] == class_id for info in self.class_info):
            return
        self.class_info.append({"source": source, "id": class_id, "name": class_name})

    def add_image(self, source: str, image_id: Any, path: str | None, **kwargs: Any) -> None:
        """Registers an image.

        Args:
            source: Name of the source.
            image_id: The source's identifier of the image.
            path: Image file; None where `load_image` reads no file.
            **kwargs: Further entries of the image's `image_info`.
        """
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def image_reference(self, image_id: int) -> str:
        """Returns a reference by which a person finds the image again; for subclasses to override.

        Args:
            image_id: Internal identifier.

        Returns:
            A link, a file or a name; here an empty string.
        """
        return ""

    def prepare(self, class_map: None = None) -> None:
        """Derives the attributes that the registered classes and images determine.

        Args:
            class_map: None; part of the lineage's signature.
        """
        _refuse_class_map(class_map)
        self.num_classes = len(self.class_info)
        self.class_ids = np.arange(self.num_classes)
        self.class_names = [info["name"].split(",")[0] for info in self.class_info]
        self.num_images = len(self.image_info)
        self._image_ids = np.arange(self.num_images)
        self.class_from_source_map = {_source_key(info): i for i, info in enumerate(self.class_info)}
        self.image_from_source_map = {_source_key(info): i for i, info in enumerate(self.image_info)}
        self.sources = list(dict.fromkeys(info["source"] for info in self.class_info))
        self.source_class_ids = {
            source: [i for i, info in enumerate(self.class_info) if i == 0 or info["source"] == source]
            for source in self.sources
        }

    def map_source_class_id(self, source_class_id: str) -> int:
        """Returns the internal identifier of a class given as "source.id", e.g. "coco.12"."""
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str) -> int:
        """Returns the source's identifier of an internal class.

        Args:
            class_id: Internal identifier.
            source: Name of the source.

        Raises:
            ValueError: The class is of another source.
        """
        info = self.class_info[class_id]
        if info["source"] != source:
            raise ValueError(f"Class {class_id} is of source {info['source']!r}. Received: source={source!r}")
        return info["id"]

    @property
    def image_ids(self) -> np.ndarray:
        """int `[num_images]`, the internal image identifiers; empty before `prepare`."""
        return self._image_ids

    def source_image_link(self, image_id: int) -> str:
        """Returns the path of the image file; a subclass may return a URL."""
        return self.image_info[image_id]["path"]

    def load_image(self, image_id: int) -> np.ndarray:
        """Reads an image from its file.

        Greyscale becomes RGB, and an alpha channel is dropped. 8-bit samples are kept; all others are scaled from the
        image's own brightness, see `trainkit.pixels.to_uint8`. Images of other channels, or whose intensities are to be
        compared, need a `load_image` of their own.

        Args:
            image_id: Internal identifier.

        Returns:
            uint8 `[H, W, 3]`.

        Raises:
            ValueError: The file cannot be read, is damaged or incomplete, or does not hold one image that is grey or
                RGB, each with or without alpha; the message names it.
        """
        path = self.image_info[image_id]["path"]
        with reading(path):
            return self._read_image(path)

    def _read_image(self, path: str) -> np.ndarray:
        if _is_tiff(path):
            _require_complete(path)
        image = skimage.io.imread(path)
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or image.shape[-1] > 4 or (image.shape[-1] in (2, 4) and not _has_alpha(path)):
            raise ValueError(
                f"{path}: expected one image that is grey or RGB, each with or without alpha. Received: shape "
                f"{image.shape}. Override load_image to choose among other channels or planes."
            )
        return to_uint8(image[..., :3] if image.shape[-1] > 2 else image[..., :1].repeat(3, axis=-1))

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Loads the instances of an image as masks; for subclasses to override.

        Args:
            image_id: Internal identifier.

        Returns:
            masks: bool `[H, W, N]`.
            class_ids: int32 `[N]`, the internal class identifier of each mask.
            Here there are none: float `[0, 0, 0]` and int32 `[0]`.
        """
        return np.empty([0, 0, 0]), np.empty([0], np.int32)

    def load_labels(self, image_id: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Loads the instances of an image as a label image; a subclass that can do so trains faster.

        Args:
            image_id: Internal identifier.

        Returns:
            None where only `load_mask` is available, as here; else
            labels: int32 `[H, W]`, 0 background, 1..N one instance each.
            class_ids: int32 `[N]`, the internal class identifier of label k + 1 at k.
        """
        return None


def _source_key(info: dict[str, Any]) -> str:
    return f"{info['source']}.{info['id']}"


def _is_tiff(path: str | os.PathLike) -> bool:
    return Path(path).suffix.lower() in (".tif", ".tiff")


def _require_complete(path: str | os.PathLike) -> None:
    """Refuses a TIFF that lacks strips or tiles, and warns of one that states some to be empty."""
    with tifffile.TiffFile(path) as file:
        empty, needed, what = count_empty_parts(file.pages.first)
    if empty:
        _log.warning("%s: is sparse: %d of its %d %s are stored as empty and read as 0", path, empty, needed, what)


def _has_alpha(path: str | os.PathLike) -> bool:
    """Returns whether the last of an image file's 2 or 4 channels is alpha, which only TIFF leaves open."""
    if not _is_tiff(path):
        return True
    with tifffile.TiffFile(path) as file:
        extra = file.pages.first.extrasamples
    return bool(extra) and int(extra[-1]) in _ALPHA


def _refuse_class_map(class_map: None) -> None:
    if class_map is not None:
        raise ValueError(f"Class maps are not supported. Received: class_map={class_map!r}")
