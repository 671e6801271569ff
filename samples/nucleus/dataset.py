"""The 2018 Data Science Bowl's folder layout, or plain image files, as a dataset for training and detection.

<root>/stage1_train/<ImageId>/images/<ImageId>.png     one image
<root>/stage1_train/<ImageId>/masks/*.png              one mask a nucleus
<root>/classes.csv                                     optional: ImageId,foreground,background
"""

from __future__ import annotations

import collections
import csv
import itertools
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mrcnn.dataset import Dataset
from nucleus.cache import ArrayCache, LabelCache, label_cache_folder
from nucleus.images import IMAGE_SUFFIXES, list_images, read_image, read_mask
from nucleus.labels import labels_to_masks

SOURCE = "nucleus"
TRAIN_FOLDER = "stage1_train"
UNKNOWN_MODALITY = "unknown"
MODALITIES = {
    ("white", "black"): "fluorescence",
    ("purple", "purple"): "h&e-purple",
    ("purple", "white"): "h&e-white",
    ("black", "white"): "brightfield",
}

# The images that the nucleus sample of matterport's Mask_RCNN sets aside from stage1_train for validation.
VAL_IMAGE_IDS = (
    "0c2550a23b8a0f29a7575de8c61690d3c31bc897dd5ba66caec201d201a278c2",
    "92f31f591929a30e4309ab75185c96ff4314ce0a7ead2ed2c2171897ad1da0c7",
    "1e488c42eb1a54a3e8412b1f12cde530f950f238d71078f2ede6a85a02168e1f",
    "c901794d1a421d52e5734500c0a2a8ca84651fb93b19cec2f411855e70cae339",
    "8e507d58f4c27cd2a82bee79fe27b069befd62a46fdaed20970a95a2ba819c7b",
    "60cb718759bff13f81c4055a7679e81326f78b6a193a2d856546097c949b20ff",
    "da5f98f2b8a64eee735a398de48ed42cd31bf17a6063db46a9e0783ac13cd844",
    "9ebcfaf2322932d464f15b5662cae4d669b2d785b8299556d73fffcae8365d32",
    "1b44d22643830cd4f23c9deadb0bd499fb392fb2cd9526d81547d93077d983df",
    "97126a9791f0c1176e4563ad679a301dac27c59011f579e808bbd6e9f4cd1034",
    "e81c758e1ca177b0942ecad62cf8d321ffc315376135bcbed3df932a6e5b40c0",
    "f29fd9c52e04403cd2c7d43b6fe2479292e53b2f61969d25256d2d2aca7c6a81",
    "0ea221716cf13710214dcd331a61cea48308c3940df1d28cfc7fd817c83714e1",
    "3ab9cab6212fabd723a2c5a1949c2ded19980398b56e6080978e796f45cbbc90",
    "ebc18868864ad075548cc1784f4f9a237bb98335f9645ee727dac8332a3e3716",
    "bb61fc17daf8bdd4e16fdcf50137a8d7762bec486ede9249d92e511fcb693676",
    "e1bcb583985325d0ef5f3ef52957d0371c96d4af767b13e48102bca9d5351a9b",
    "947c0d94c8213ac7aaa41c4efc95d854246550298259cf1bb489654d0e969050",
    "cbca32daaae36a872a11da4eaff65d1068ff3f154eedc9d3fc0c214a4e5d32bd",
    "f4c4db3df4ff0de90f44b027fc2e28c16bf7e5c75ea75b0a9762bbb7ac86e7a3",
    "4193474b2f1c72f735b13633b219d9cabdd43c21d9c2bb4dfc4809f104ba4c06",
    "f73e37957c74f554be132986f38b6f1d75339f636dfe2b681a0cf3f88d2733af",
    "a4c44fc5f5bf213e2be6091ccaed49d8bf039d78f6fbd9c4d7b7428cfcb2eda4",
    "cab4875269f44a701c5e58190a1d2f6fcb577ea79d842522dcab20ccb39b7ad2",
    "8ecdb93582b2d5270457b36651b62776256ade3aaa2d7432ae65c14f07432d49",
)

_log = logging.getLogger(__name__)


class DatasetError(ValueError):
    """A dataset that cannot be used as asked; the message names the file or folder and the cause."""


def shipped_data() -> Path:
    """The folder with the 16 images that come with this package, in the layout above (`train`: 10, `val`: 6)."""
    return Path(__file__).resolve().parent / "data"


class NucleusDataset(Dataset):
    """Nucleus images with their label images.

    Each entry of `image_info` holds `id`, `source` ("nucleus"), `path`, `masks` (the folder, or None), `modality` and
    `label_cache` (a `nucleus.cache.LabelCache`, or None).

    Args:
        preprocessing: image -> image, both uint8 [H, W, 3] RGB of one shape, applied to every image that is read
            (`nucleus.preprocess.Clahe`, say); None for none. It must always give the same for the same image.
        cache_dir: folder for the label images; by default see `nucleus.cache.label_cache_folder`.
        memory_limit: bytes of decoded images and label images that are kept in memory; 0 keeps none.
    """

    def __init__(
        self,
        preprocessing: Callable[[np.ndarray], np.ndarray] | None = None,
        cache_dir: str | os.PathLike | None = None,
        memory_limit: int = 256 * 2**20,
    ):
        super().__init__()
        self.preprocessing = preprocessing
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._memory = ArrayCache(memory_limit)
        self.add_class(SOURCE, 1, "nucleus")

    def load_nucleus(
        self,
        dataset_dir: str | os.PathLike,
        subset: str,
        require_masks: bool = True,
        failures: list[str] | None = None,
    ) -> None:
        """Adds a subset of a folder in the Data Science Bowl's layout; `prepare()` comes after it.

        Args:
            dataset_dir: the folder that holds `stage1_train`.
            subset: "val" for those of the customary `VAL_IMAGE_IDS` that are in `stage1_train`, "train" for the
                rest of `stage1_train`, or the name of a folder in `dataset_dir`, all of which is taken.
            require_masks: whether an image without masks is an error; False for detection.
            failures: takes a message for each image folder that cannot be used, and the others go on; without it
                the first such folder is an error.

        Raises:
            DatasetError: a folder is missing or holds no image folder, an image folder cannot be used because it
                holds no image or several or lacks masks, or `classes.csv` has other columns.
        """
        root = Path(dataset_dir)
        folder = root / (TRAIN_FOLDER if subset in ("train", "val") else subset)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: there is no such folder (subset {subset!r} of {root})")
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        if subset in ("train", "val"):
            names = [name for name in names if (name in VAL_IMAGE_IDS) == (subset == "val")]
        if not names:
            raise DatasetError(f"{folder}: no image folder of the subset {subset!r} is in it")
        modalities = read_modalities(root / "classes.csv")
        cache = LabelCache((self.cache_dir or label_cache_folder(root)) / folder.name)
        for name in names:
            try:
                path, masks = _only_image(folder / name), _masks(folder / name, require_masks)
            except DatasetError as error:
                if failures is None:
                    raise
                failures.append(str(error))
                continue
            self.add_image(
                SOURCE,
                image_id=name,
                path=str(path),
                masks=None if masks is None else str(masks),
                modality=modalities.get(name, UNKNOWN_MODALITY),
                label_cache=cache,
            )

    def load_images(self, paths: Iterable[str | os.PathLike] | str | os.PathLike) -> None:
        """Adds plain image files, without masks, for detection; `prepare()` comes after it.

        An image's id is its file's name without suffix; where names repeat, the later ones get "-2", "-3", ...

        Args:
            paths: image files, and folders of which all image files directly inside are taken.

        Raises:
            DatasetError: a path is missing, or a folder holds no image file.
        """
        taken = {info["id"] for info in self.image_info}
        for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
            for file in _image_files(Path(path)):
                self.add_image(
                    SOURCE,
                    image_id=_unused(file.stem, taken),
                    path=str(file),
                    masks=None,
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
            nucleus.images.ImageFileError: the file cannot be used.
        """
        return self._memory.get(("image", image_id), lambda: self._read_image(image_id))

    def load_labels(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads an image's masks as one label image, through the caches.

        Label k + 1 is the k-th mask file in the order of names. A pixel in several masks belongs to the first of
        them; a mask without a pixel is left out. Both are counted in a warning when the label image is made.

        Args:
            image_id: index into `image_info`.

        Returns:
            (labels int32 [H, W], class ids int32 [N], all 1).

        Raises:
            DatasetError: the image has no masks, or a mask has another shape than its image.
            nucleus.images.ImageFileError: a file cannot be used.
        """
        labels = self._memory.get(("labels", image_id), lambda: self._stored_labels(image_id))
        return labels, np.ones(int(labels.max(initial=0)), np.int32)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """As `load_labels`, as a mask stack: (masks bool [H, W, N], class ids int32 [N])."""
        labels, class_ids = self.load_labels(image_id)
        return labels_to_masks(labels, len(class_ids)), class_ids

    def image_reference(self, image_id: int) -> str:
        """The image's id in the Data Science Bowl, or its file's name without suffix."""
        return self.image_info[image_id]["id"]

    def cache_labels(self, workers: int = 2, progress: bool = True) -> None:
        """Makes all label images that are not on disk yet, so that the first epoch runs as fast as the others.

        Args:
            workers: threads that read masks.
            progress: whether a progress bar is shown.

        Raises:
            DatasetError: see `load_labels`; as with the next one, those already made stay.
            nucleus.images.ImageFileError: a file cannot be used.
        """
        with_masks = [i for i, info in enumerate(self.image_info) if info.get("masks")]
        with ThreadPoolExecutor(workers) as pool:
            done = pool.map(self._stored_labels, with_masks)
            bar = tqdm(done, "label images", len(with_masks), disable=not progress, unit="image")
            collections.deque(bar, maxlen=0)

    def _read_image(self, image_id: int) -> np.ndarray:
        image = read_image(self.image_info[image_id]["path"])
        return image if self.preprocessing is None else self.preprocessing(image)

    def _stored_labels(self, image_id: int) -> np.ndarray:
        info = self.image_info[image_id]
        if not info["masks"]:
            raise DatasetError(f"{info['path']}: the image has no masks")
        image = Path(info["path"])
        masks = list_images(info["masks"])
        return info["label_cache"].get(info["id"], [image, *masks], lambda: read_label_image(image, masks))


def read_label_image(image_path: Path, mask_paths: Iterable[Path]) -> np.ndarray:
    """Paints mask files into one label image.

    A pixel in several masks belongs to the first of them. A mask without a pixel, or with none left, is left out.
    Each of the three is counted in a warning.

    Args:
        image_path: the image that the masks belong to; gives the shape.
        mask_paths: the masks, first the one that is to be label 1.

    Returns:
        int32 [H, W], labels 1...N.

    Raises:
        DatasetError: a mask has another shape than its image.
        nucleus.images.ImageFileError: a file cannot be used.
    """
    shape = read_image(image_path).shape[:2]
    labels = np.zeros(shape, np.int32)
    contested, number = 0, 0
    for path in mask_paths:
        mask = read_mask(path)
        if mask.shape != shape:
            raise DatasetError(f"{path}: the mask has shape {mask.shape}, its image {image_path} has {shape}")
        free = mask & (labels == 0)
        claimed, won = np.count_nonzero(mask), np.count_nonzero(free)
        contested += claimed - won
        if won:
            number += 1
            labels[free] = number
        elif claimed:
            _log.warning("%s: dropped, all of its pixels belong to earlier masks", path)
        else:
            _log.warning("%s: dropped, the mask has no pixel", path)
    if contested:
        _log.warning("%s: masks overlap in %d pixels; the first in the order of names keeps", image_path, contested)
    return labels


def read_modalities(path: str | os.PathLike) -> dict[str, str]:
    """Reads `classes.csv`.

    Args:
        path: a CSV file with the columns ImageId, foreground and background (colour names); it may be missing.

    Returns:
        ImageId -> modality: one of the names in `MODALITIES`, or "<foreground>-on-<background>" for other colours.

    Raises:
        DatasetError: a column is missing.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    columns = ("ImageId", "foreground", "background")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not set(columns) <= set(reader.fieldnames or ()):
            raise DatasetError(f"{path}: expected the columns {', '.join(columns)}; found {reader.fieldnames}")
        rows = [tuple((row[column] or "").strip() for column in columns) for row in reader]
    return {
        name: MODALITIES.get((foreground, background), f"{foreground}-on-{background}")
        for name, foreground, background in rows
    }


def _only_image(folder: Path) -> Path:
    images = folder / "images"
    found = list_images(images) if images.is_dir() else []
    if len(found) != 1:
        raise DatasetError(f"{images}: expected one image file; found {len(found)}")
    return found[0]


def _masks(folder: Path, required: bool) -> Path | None:
    masks = folder / "masks"
    if masks.is_dir() and list_images(masks):
        return masks
    if required:
        raise DatasetError(f"{masks}: no mask file is there; training and evaluation need one a nucleus")
    return None


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
