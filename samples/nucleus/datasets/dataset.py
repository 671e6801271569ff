"""A dataset for training and detection: the samples of any layout, or plain image files."""

from __future__ import annotations

import collections
import copy
import itertools
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mrcnn.dataset import Dataset
from mrcnn.resizing import resize_image, resize_mask
from nucleus.augmentation.mixing import Mixing
from nucleus.datasets.cache import ArrayCache, LabelCache, label_cache_folder
from nucleus.datasets.layouts import read_samples
from nucleus.datasets.layouts.base import EVERY_MODALITY, UNKNOWN_MODALITY, DatasetError, Sample, raise_error
from nucleus.datasets.layouts.dsb2018 import TRAIN_FOLDER, VAL_IMAGE_IDS
from nucleus.datasets.layouts.label_files import BinaryMaskWatch, LabelFile
from nucleus.datasets.layouts.tables import CLASSES_FILE, MODALITIES, read_modalities
from nucleus.images.labels import labels_to_masks, relabel_sequential
from nucleus.images.reading import IMAGE_SUFFIXES, list_images, read_image

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
    """The folder with the 16 images that come with this package, in the layout above (`train`: 10, `val`: 6)."""
    return Path(__file__).resolve().parents[1] / "data"


class NucleusDataset(Dataset):
    """Nucleus images with their label images.

    Each entry of `image_info` holds `id`, `source` ("nucleus"), `path`, `masks` (the folder or file that the labels
    come from, or None), `truth` (the same as a `nucleus.datasets.layouts.base.Truth`, or None), `collection` (see
    `nucleus.datasets.layouts.base.Sample`; not of plain files), `modality` and `label_cache` (a
    `nucleus.datasets.cache.LabelCache`, or None).

    Args:
        preprocessing: image -> image, both uint8 [H, W, 3] RGB of one shape, applied to every image that is read
            (`nucleus.images.preprocess.Clahe`, say); None for none. It must always give the same for the same image.
        cache_dir: folder for the label images; by default see `nucleus.datasets.cache.label_cache_folder`.
        fit: pixels; every image is scaled, its aspect ratio unchanged, to fit into a square of this side, and padded
            to it with zeros, its label image alike (a nucleus left without a pixel is dropped). None changes nothing.
        memory_limit: bytes of decoded images and label images that are kept in memory; 0 keeps none.
        mixing: what images take from each other when a training draws them (`draw_sample`); None for nothing.
    """

    def __init__(
        self,
        preprocessing: Callable[[np.ndarray], np.ndarray] | None = None,
        cache_dir: str | os.PathLike | None = None,
        memory_limit: int = 256 * 2**20,
        fit: int | None = None,
        mixing: Mixing | None = None,
    ):
        super().__init__()
        if fit is not None and fit < 1:
            raise DatasetError(f"The side to fit images into must be above 0. Received: fit={fit!r}")
        self.preprocessing = preprocessing
        self.fit = fit
        self.mixing = mixing
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
        """Adds a subset of a data set in any of `nucleus.datasets.layouts.LAYOUTS`; `prepare()` comes after it.

        Args:
            dataset_dir: the folder of the data set, or its one CSV or JSON file.
            subset: "train", "val", "all" or the name of a part; see `nucleus.datasets.layouts.subsets` and the module of the
                layout. In the Data Science Bowl's layout "val" are those of the customary `VAL_IMAGE_IDS` that are in
                `stage1_train`, "train" is the rest of it, and each folder is a part.
            require_masks: whether an image without labels is an error; False for detection.
            failures: takes a message for each image that cannot be used, and the others go on; without it the first
                such image is an error.
            layout: a name in `nucleus.datasets.layouts.LAYOUTS`; by default told by what the folder holds.
            classes: CSV file with the images' modalities (see `nucleus.datasets.layouts.tables.read_modalities`), which counts
                instead of what the data set says. By default `classes.csv` in the data set's folder fills the gaps.
            require_classes: whether it is an error that `classes` names none of the images.

        Raises:
            DatasetError: the data set or the subset is missing, empty, or not in the layout; a file of it is
                malformed; `classes` is missing, or names none of the images where it must; a modality is called
                "all"; or an image cannot be used because there is none or several or it lacks labels.
        """
        root = Path(dataset_dir)
        report = raise_error if failures is None else lambda error: failures.append(str(error))
        folder = root if root.is_dir() else root.parent
        samples = _with_modalities(read_samples(root, subset, layout, report), folder, classes, require_classes)
        cache_folder = self.cache_dir or label_cache_folder(folder)
        for sample in samples:
            if require_masks and sample.truth is None:
                report(DatasetError(f"{sample.image}: it has no mask file and no label image, which are needed here"))
            else:
                self._add_sample(sample, LabelCache(cache_folder / sample.collection))

    def _add_sample(self, sample: Sample, cache: LabelCache) -> None:
        self.add_image(
            SOURCE,
            image_id=sample.id,
            path=str(sample.image),
            masks=None if sample.truth is None else str(sample.truth.path),
            truth=sample.truth,
            collection=sample.collection,
            modality=sample.modality,
            label_cache=cache,
        )

    def keep_images(self, ids: Collection[str], source: str) -> None:
        """Keeps some of the images, such as those of folds, and forgets the others; `prepare()` comes after it.

        Args:
            ids: ids of images; all must be there.
            source: what was read, for the message.

        Raises:
            DatasetError: an image is not.
        """
        missing = set(ids) - {info["id"] for info in self.image_info}
        if missing:
            raise DatasetError(f"{source}: {min(missing)} is in the folds but not among these images")
        self.image_info = [info for info in self.image_info if info["id"] in ids]

    def for_training(
        self, preprocessing: Callable[[np.ndarray], np.ndarray] | None, mixing: Mixing | None = None
    ) -> NucleusDataset:
        """Returns the same images as a training takes them: preprocessed, and mixed with each other.

        Args:
            preprocessing: See `NucleusDataset`.
            mixing: See `NucleusDataset`.

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
        """Adds plain image files, without masks, for detection; `prepare()` comes after it.

        An image's id is its file's name without suffix; where names repeat, the later ones get "-2", "-3", ... A
        file that is named twice is taken once.

        Args:
            paths: image files, and folders of which all image files directly inside are taken.

        Raises:
            DatasetError: a path is missing, or a folder holds no image file.
        """
        taken = {info["id"] for info in self.image_info}
        known = {Path(info["path"]).resolve() for info in self.image_info}
        for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
            for file in _image_files(Path(path)):
                if file.resolve() in known:
                    continue
                known.add(file.resolve())
                self.add_image(
                    SOURCE,
                    image_id=_unused(file.stem, taken),
                    path=str(file),
                    masks=None,
                    truth=None,
                    modality=UNKNOWN_MODALITY,
                    label_cache=None,
                )

    def load_image(self, image_id: int) -> np.ndarray:
        """Reads and preprocesses an image.

        Args:
            image_id: index into `image_info`.

        Returns:
            uint8 [H, W, 3] RGB, the caller's own to write into.

        Raises:
            nucleus.images.reading.ImageFileError: the file cannot be used.
        """
        return self._memory.get(("image", image_id), lambda: self._read_image(image_id))

    def load_labels(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads an image's labels as one label image, through the caches.

        Labels are in the order of the data set: of mask files by name, of rows, of annotations, of the values in a
        label image. A pixel in several masks belongs to the first of them; a mask without a pixel is left out. Both
        are counted in a warning when the label image is made. The first file of labels that looks like a binary mask
        of several nuclei is named in a warning, too.

        Args:
            image_id: index into `image_info`.

        Returns:
            (labels int32 [H, W], class ids int32 [N], all 1).

        Raises:
            DatasetError: the image has no masks, or they are malformed or of another shape than the image.
            nucleus.images.reading.ImageFileError: a file cannot be used.
        """
        labels = self._memory.get(("labels", image_id), lambda: self._fitted_labels(image_id))
        return labels, np.ones(int(labels.max(initial=0)), np.int32)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """As `load_labels`, as a mask stack: (masks bool [H, W, N], class ids int32 [N])."""
        labels, class_ids = self.load_labels(image_id)
        return labels_to_masks(labels, len(class_ids)), class_ids

    def draw_sample(self, image_id: int, rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """As `load_image` and `load_labels`, mixed with other images where `mixing` says so: what training takes.

        Images are mixed before they are preprocessed, and only within one modality.

        Args:
            image_id: index into `image_info`.
            rng: makes every random choice.

        Returns:
            (image uint8 [H, W, 3], (labels int32 [H, W], class ids int32 [N])).

        Raises:
            DatasetError: see `load_labels`, of this image and those that it is mixed with.
            nucleus.images.reading.ImageFileError: a file cannot be used.
        """
        if self.mixing is None:
            return self.load_image(image_id), self.load_labels(image_id)
        image, labels = self.mixing(self._load_plain, image_id, self._alike(image_id), rng)
        image = image if self.preprocessing is None else self.preprocessing(image)
        return image, (labels, np.ones(int(labels.max(initial=0)), np.int32))

    def image_reference(self, image_id: int) -> str:
        """The image's id in its data set, or its file's name without suffix."""
        return self.image_info[image_id]["id"]

    def cache_labels(self, workers: int = 2, progress: bool = True) -> None:
        """Makes all label images that are not on disk yet, so that the first epoch runs as fast as the others.

        Args:
            workers: threads that read masks.
            progress: whether a progress bar is shown.

        Raises:
            DatasetError: see `load_labels`; as with the next one, those already made stay.
            nucleus.images.reading.ImageFileError: a file cannot be used.
        """
        with_masks = [i for i, info in enumerate(self.image_info) if info.get("truth")]
        with ThreadPoolExecutor(workers) as pool:
            done = pool.map(self._stored_labels, with_masks)
            bar = tqdm(done, "label images", len(with_masks), disable=not progress, unit="image")
            collections.deque(bar, maxlen=0)

    def _read_image(self, image_id: int) -> np.ndarray:
        image = self._read_plain(image_id)
        return image if self.preprocessing is None else self.preprocessing(image)

    def _read_plain(self, image_id: int) -> np.ndarray:
        image = read_image(self.image_info[image_id]["path"])
        return image if self.fit is None else resize_image(image, self.fit, self.fit)[0]

    def _load_plain(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The image without preprocessing, and its labels."""
        image = self._memory.get(("plain", image_id), lambda: self._read_plain(image_id))
        return image, self.load_labels(image_id)[0]

    def _alike(self, image_id: int) -> list[int]:
        """The other images of the same modality."""
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


def _with_modalities(
    samples: list[Sample], folder: Path, classes: str | os.PathLike | None, require_classes: bool
) -> list[Sample]:
    if classes is None:
        told = read_modalities(folder / CLASSES_FILE)
        unknown = (sample.id for sample in samples if sample.modality == UNKNOWN_MODALITY)
        told = {name: told[name] for name in unknown if name in told}
    elif not Path(classes).is_file():
        raise DatasetError(f"{classes}: there is no such file")
    else:
        told = read_modalities(classes)
        if require_classes and samples and not any(sample.id in told for sample in samples):
            raise DatasetError(f"{classes}: names none of the images, such as {samples[0].id}")
    samples = [replace(sample, modality=told.get(sample.id, sample.modality)) for sample in samples]
    mistaken = next((sample.id for sample in samples if sample.modality == EVERY_MODALITY), None)
    if mistaken is not None:
        raise DatasetError(
            f"{classes or folder}: the modality of {mistaken} is called {EVERY_MODALITY!r}, as the scores of all "
            "images are; give it another name"
        )
    return samples


def _image_files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise DatasetError(f"{path}: there is no such file or folder")
        return [path]
    found = list_images(path)
    if not found:
        raise DatasetError(f"{path}: no image file ({', '.join(IMAGE_SUFFIXES)}) is directly in this folder")
    return found


def _unused(name: str, taken: set[str]) -> str:
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free
