"""Data set for training and detection: the samples of any layout, or plain image files."""

from __future__ import annotations

import collections
import contextlib
import copy
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mrcnn.dataset import Dataset
from mrcnn.resizing import resize_image, resize_mask
from nucleus.augmentation.mixing import Mixing
from nucleus.datasets.cache import ArrayCache, LabelCache, label_cache_folders
from nucleus.datasets.classes import with_modalities
from nucleus.datasets.layouts import read_samples
from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, raise_error
from nucleus.datasets.layouts.dsb2018 import TRAIN_FOLDER, VAL_IMAGE_IDS
from nucleus.datasets.layouts.label_files import BinaryMaskWatch, LabelFile
from nucleus.datasets.layouts.tables import MODALITIES, read_modalities
from nucleus.datasets.plain_files import image_files, unused_name
from nucleus.images.decoding import NO_CHOICE, ImageFileError, Place, Planes, RawImage
from nucleus.images.labels import labels_to_masks, relabel_sequential
from nucleus.images.reading import read_pixel_size, read_places, read_raw, read_rgb

__all__ = [
    "MODALITIES",
    "TRAIN_FOLDER",
    "VAL_IMAGE_IDS",
    "DatasetError",
    "NucleusDataset",
    "read_modalities",
    "shipped_data",
]
SOURCE = "nucleus"


def shipped_data() -> Path:
    """Returns the folder of the 16 images that are installed with the package ("train": 10, "val": 6).

    Examples:
        >>> len(list(shipped_data().glob("stage1_train/*/images/*.png")))
        16
    """
    return Path(__file__).resolve().parents[1] / "data"


class NucleusDataset(Dataset):
    """Nucleus images with their label images.

    Each entry of `image_info` has `id`, `source` ("nucleus"), `path`, `masks` (folder or file of the labels, or None),
    `truth` (reader of the labels, a `nucleus.datasets.layouts.base.Truth`, or None), `collection` (see
    `nucleus.datasets.layouts.base.Sample`; not of plain files), `modality`, `label_cache` (a
    `nucleus.datasets.cache.LabelCache`, or None) and, where all planes or frames of files are read, `place` (a
    `nucleus.images.decoding.Place`, or None).

    Args:
        preprocessing: Function from image to image, both uint8 [H, W, 3] RGB of one shape, that is applied to every
            image, such as `nucleus.images.preprocess.Clahe`; None for none. It must be deterministic.
        cache_dir: Folder of the cached label images; by default those of `nucleus.datasets.cache.label_cache_folders`.
        memory_limit: Largest number of bytes of decoded images and label images in memory; 0 keeps none.
        fit: Side in pixels of a square that images and label images are scaled to, with their aspect ratio, and padded
            to with zeros (a nucleus left without a pixel is dropped). None leaves them as they are.
        mixing: Mixing of images in `draw_sample`, for training; None for none.
        planes: Choice of channel, plane, frame and scene in files that hold several. With all planes or frames, each is
            an image of its own, with its number behind the file's name.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.
    """

    def __init__(
        self,
        preprocessing: Callable[[np.ndarray], np.ndarray] | None = None,
        cache_dir: str | os.PathLike | None = None,
        memory_limit: int = 256 * 2**20,
        fit: int | None = None,
        mixing: Mixing | None = None,
        planes: Planes = NO_CHOICE,
        pixel_size: float | None = None,
    ):
        super().__init__()
        if fit is not None and fit < 1:
            raise DatasetError(f"Expected a side of at least 1 pixel. Received: fit={fit!r}")
        self.preprocessing = preprocessing
        self.fit = fit
        self.mixing = mixing
        self.planes = planes
        self.pixel_size = pixel_size
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._memory = ArrayCache(memory_limit)
        self._binary_masks = BinaryMaskWatch()
        self.add_class(SOURCE, 1, "nucleus")

    def load_nucleus(
        self,
        dataset_dir: str | os.PathLike,
        subset: str,
        require_masks: bool = True,
        failures: list[str] | None = None,
        layout: str | None = None,
        classes: str | os.PathLike | None = None,
        require_classes: bool = True,
    ) -> None:
        """Adds a subset of a data set in any layout; call `prepare()` afterwards.

        Examples:
            >>> dataset = NucleusDataset()
            >>> dataset.load_nucleus(shipped_data(), "val")
            >>> dataset.prepare()
            >>> dataset.num_images
            6
            >>> labels, class_ids = dataset.load_labels(0)
            >>> labels.dtype, len(class_ids) == int(labels.max())
            (dtype('int32'), True)

        Args:
            dataset_dir: Folder of the data set, or its one CSV or JSON file.
            subset: "train", "val", "all" or the name of a part; see `nucleus.datasets.layouts.subsets` and the layout's
                module. In the Data Science Bowl's layout "val" is the customary `VAL_IMAGE_IDS` in `stage1_train`,
                "train" is the rest of it, and each folder is a part.
            require_masks: True to refuse an image without labels; False for detection.
            failures: List that the messages of unusable images are appended to; by default the first one is raised.
            layout: Key of `nucleus.datasets.layouts.LAYOUTS`; by default it is detected.
            classes: CSV file with the images' modalities (`nucleus.datasets.layouts.tables.read_modalities`), which
                overrides the data set's own. By default `classes.csv` in the data set's folder fills the gaps.
            require_classes: True to refuse `classes` if it names none of the images.

        Raises:
            DatasetError: The data set or the subset is missing, empty, or not in the layout; one of its files is
                malformed; `classes` is missing, or names none of the images although it must; a modality is called
                "all"; or an image file is missing, is there several times, or lacks labels.
        """
        root = Path(dataset_dir)
        report = raise_error if failures is None else lambda error: failures.append(str(error))
        folder = root if root.is_dir() else root.parent
        samples = with_modalities(read_samples(root, subset, layout, report), folder, classes, require_classes)
        caches = label_cache_folders(folder) if self.cache_dir is None else (self.cache_dir,)
        if self.planes.several and require_masks:
            raise DatasetError(f"{root}: labels belong to one plane and frame; choose one, not all")
        for sample in samples:
            if require_masks and sample.truth is None:
                report(DatasetError(f"{sample.image}: it has no mask file and no label image, which are needed here"))
            else:
                self._add_file(
                    sample.id,
                    sample.image,
                    masks=None if sample.truth is None else str(sample.truth.path),
                    truth=sample.truth,
                    collection=sample.collection,
                    modality=sample.modality,
                    label_cache=LabelCache(*(cache / sample.collection for cache in caches)),
                )

    def _add_file(self, image_id: str, path: Path, **info: Any) -> None:
        """Adds a file: one image, or one for each of its planes or frames where all are read."""
        places: list[Place | None] = [None]
        if self.planes.several:
            # A file that cannot be read is one image, which fails with the others' results intact.
            with contextlib.suppress(ImageFileError):
                places = [place._replace(stack=image_id) for place in read_places(path, self.planes)]
        for place in places:
            suffix = "" if place is None else place.suffix
            self.add_image(SOURCE, image_id=image_id + suffix, path=str(path), place=place, **info)

    def planes_of(self, image_id: int) -> Planes:
        """Returns the choice of what is read of an image's file.

        Args:
            image_id: Index into `image_info`.
        """
        place = self.image_info[image_id]["place"]
        return self.planes if place is None else self.planes.at(place)

    def keep_images(self, ids: Collection[str], source: str) -> None:
        """Keeps some of the images, such as those of folds, and drops the others; call `prepare()` afterwards.

        Args:
            ids: Ids of the images to keep.
            source: Name of the data set in error messages.

        Raises:
            DatasetError: An id is not in the data set.
        """
        missing = set(ids) - {info["id"] for info in self.image_info}
        if missing:
            raise DatasetError(f"{source}: {min(missing)} is in the folds but not among these images")
        self.image_info = [info for info in self.image_info if info["id"] in ids]

    def with_images(self, ids: Collection[str]) -> NucleusDataset:
        """Returns a prepared data set of some of the images.

        Args:
            ids: Ids of the images to keep.
        """
        images = copy.copy(self)
        images.image_info = [info for info in self.image_info if info["id"] in ids]
        images._memory = ArrayCache(self._memory.limit)
        images.prepare()
        return images

    def for_training(
        self, preprocessing: Callable[[np.ndarray], np.ndarray] | None, mixing: Mixing | None = None
    ) -> NucleusDataset:
        """Returns a data set of the same images with a model's preprocessing and mixing, for its training.

        Args:
            preprocessing: Function from image to image, both uint8 [H, W, 3] RGB of one shape; None for none.
            mixing: Mixing of images in `draw_sample`; None for none.

        Raises:
            DatasetError: The images are preprocessed already.
        """
        if self.preprocessing is not None:
            raise DatasetError("A model preprocesses images itself: give it a dataset without preprocessing.")
        images = copy.copy(self)
        images.preprocessing, images.mixing = preprocessing, mixing
        images._memory = ArrayCache(self._memory.limit)
        return images

    def load_images(self, paths: Iterable[str | os.PathLike] | str | os.PathLike) -> None:
        """Adds plain image files, without masks, for detection; call `prepare()` afterwards.

        An image's id is its file's name without suffix; repeated names get "-2", "-3", ... A file that is given twice
        is added once.

        Args:
            paths: Image files, and folders whose image files (not those in subfolders) are added, without what programs
                write beside images (`nucleus.datasets.layouts.label_files.split_by_products`), which a warning counts.

        Raises:
            DatasetError: A path is missing, or a folder holds no image file.
        """
        taken = {info["id"] for info in self.image_info}
        known = {Path(info["path"]).resolve() for info in self.image_info}
        for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
            for file in image_files(Path(path)):
                if file.resolve() in known:
                    continue
                known.add(file.resolve())
                self._add_file(
                    unused_name(file.stem, taken),
                    file,
                    masks=None,
                    truth=None,
                    modality=UNKNOWN_MODALITY,
                    label_cache=None,
                )

    def load_image(self, image_id: int) -> np.ndarray:
        """Reads and preprocesses an image.

        Args:
            image_id: Index into `image_info`.

        Returns:
            uint8 [H, W, 3] RGB, a copy that may be written into.

        Raises:
            nucleus.images.reading.ImageFileError: The file cannot be read.
        """
        return self._memory.get(("image", image_id), lambda: self._read_image(image_id))

    def load_raw(self, image_id: int) -> RawImage:
        """Reads the samples of an image's file for measurements: of all channels, without preprocessing.

        Args:
            image_id: Index into `image_info`.

        Returns:
            The samples, at the size of the image that `load_image` returns.

        Raises:
            nucleus.images.reading.ImageFileError: The file cannot be read.
        """
        raw = read_raw(self.image_info[image_id]["path"], self.planes_of(image_id))
        raw = raw if self.pixel_size is None else raw._replace(pixel_size=self.pixel_size)
        if self.fit is None:
            return raw
        pixels, _, scale, _, _ = resize_image(raw.pixels, self.fit, self.fit)
        return raw._replace(pixels=pixels, pixel_size=raw.pixel_size and raw.pixel_size / scale)

    def pixel_size_of(self, image_id: int) -> float | None:
        """Returns the side of a pixel in µm of the image that `load_image` returns; None where it is not known.

        Args:
            image_id: Index into `image_info`.

        Raises:
            nucleus.images.reading.ImageFileError: The file cannot be read.
        """
        path, planes = self.image_info[image_id]["path"], self.planes_of(image_id)
        if self.fit is not None:
            return self.load_raw(image_id).pixel_size
        return read_pixel_size(path, planes) if self.pixel_size is None else self.pixel_size

    def load_labels(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads an image's labels as one label image, through the caches.

        Labels are in the order of the data set: mask files by name, rows, annotations, or the values of a label image.
        A pixel in several masks belongs to the first of them; a mask without a pixel is left out. Both are counted in a
        warning when the label image is made. The first label file that looks like a binary mask of several nuclei is
        named in a warning, too.

        Args:
            image_id: Index into `image_info`.

        Returns:
            (labels int32 [H, W], class ids int32 [N], all 1).

        Raises:
            DatasetError: The image has no masks, or they are malformed or of another shape than the image.
            nucleus.images.reading.ImageFileError: A file cannot be read.
        """
        labels = self._memory.get(("labels", image_id), lambda: self._fitted_labels(image_id))
        return labels, np.ones(int(labels.max(initial=0)), np.int32)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads an image's labels as a mask stack, in the manner of matterport's Mask_RCNN; see `load_labels`.

        Args:
            image_id: Index into `image_info`.

        Returns:
            (masks bool [H, W, N], class ids int32 [N], all 1).
        """
        labels, class_ids = self.load_labels(image_id)
        return labels_to_masks(labels, len(class_ids)), class_ids

    def draw_sample(self, image_id: int, rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Reads an image and its labels for training, mixed with other images of the same modality by `mixing`.

        Images are mixed before they are preprocessed.

        Args:
            image_id: Index into `image_info`.
            rng: Source of every random choice.

        Returns:
            (image uint8 [H, W, 3], (labels int32 [H, W], class ids int32 [N])).

        Raises:
            DatasetError: An image has no masks, or they are malformed or of another shape than the image.
            nucleus.images.reading.ImageFileError: A file cannot be read.
        """
        if self.mixing is None:
            return self.load_image(image_id), self.load_labels(image_id)
        image, labels = self.mixing(self._load_plain, image_id, self._alike(image_id), rng)
        image = image if self.preprocessing is None else self.preprocessing(image)
        return image, (labels, np.ones(int(labels.max(initial=0)), np.int32))

    def image_reference(self, image_id: int) -> str:
        """Returns the image's id in its data set, or the name of its file without suffix."""
        return self.image_info[image_id]["id"]

    def cache_labels(self, progress: bool = True) -> None:
        """Caches all label images on disk, so that the first epoch runs as fast as the others.

        Label images that are cached before an error stay cached.

        Args:
            progress: True to show a progress bar.

        Raises:
            DatasetError: Masks are malformed or of another shape than the image.
            nucleus.images.reading.ImageFileError: A file cannot be read.
        """
        with_masks = [i for i, info in enumerate(self.image_info) if info.get("truth")]
        with ThreadPoolExecutor(2) as pool:
            done = pool.map(self._stored_labels, with_masks)
            bar = tqdm(done, "label images", len(with_masks), disable=not progress, unit="image")
            collections.deque(bar, maxlen=0)

    def _read_image(self, image_id: int) -> np.ndarray:
        image = self._read_plain(image_id)
        return image if self.preprocessing is None else self.preprocessing(image)

    def _read_plain(self, image_id: int) -> np.ndarray:
        image = read_rgb(self.image_info[image_id]["path"], self.planes_of(image_id))
        return image if self.fit is None else resize_image(image, self.fit, self.fit)[0]

    def _load_plain(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the image without preprocessing, and its labels."""
        image = self._memory.get(("plain", image_id), lambda: self._read_plain(image_id))
        return image, self.load_labels(image_id)[0]

    def _alike(self, image_id: int) -> list[int]:
        """Returns the indices of the other images of the same modality."""
        modality = self.image_info[image_id]["modality"]
        return [i for i, info in enumerate(self.image_info) if info["modality"] == modality and i != image_id]

    def _fitted_labels(self, image_id: int) -> np.ndarray:
        labels = self._stored_labels(image_id)
        if self.fit is None:
            return labels
        _, _, scale, padding, _ = resize_image(labels[..., None], self.fit, self.fit)
        return relabel_sequential(resize_mask(labels, scale, padding))[0]

    def _stored_labels(self, image_id: int) -> np.ndarray:
        info = self.image_info[image_id]
        image, truth = Path(info["path"]), info["truth"]
        if truth is None:
            raise DatasetError(f"{image}: the image has no masks")
        labels = info["label_cache"].get(info["id"], [image, *truth.files()], lambda: truth.read(image))
        if isinstance(truth, LabelFile):
            self._binary_masks.look(truth.path, labels)
        return labels
