"""The 2018 Data Science Bowl's folders.

<root>/stage1_train/<ImageId>/images/<ImageId>.png     the image
<root>/stage1_train/<ImageId>/masks/*.png              one mask for each nucleus
<root>/classes.csv                                     optional: ImageId,foreground,background

An image with an empty folder `masks` has no nuclei; an image without that folder has no labels.

Each folder in <root> is a part with its name. In stage1_train, "val" is the customary `VAL_IMAGE_IDS`, "train" is the
rest and "all" is both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, Layout, Part, Report, Sample
from nucleus.datasets.layouts.painting import paint_in_order
from nucleus.datasets.layouts.tables import CLASSES_FILE, read_modalities
from nucleus.images.reading import list_folders, list_images, read_mask, read_shape

TRAIN_FOLDER = "stage1_train"

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


@dataclass(frozen=True)
class MaskFolder:
    """A folder with one mask file for each nucleus, a `nucleus.datasets.layouts.base.Truth`.

    Label k + 1 is the k-th file in the order of names.

    Attributes:
        path: Path of the folder.
    """

    path: Path

    def files(self) -> list[Path]:
        """Returns the mask files."""
        return list_images(self.path)

    def read(self, image: Path) -> np.ndarray:
        """Paints the mask files into a label image; see `Truth.read`."""
        shape = read_shape(image)
        return paint_in_order(shape, ((path, _pixels(path, image, shape)) for path in self.files()), image)


def _pixels(path: Path, image_path: Path, shape: tuple[int, int]) -> np.ndarray:
    mask = read_mask(path)
    if mask.shape != shape:
        raise DatasetError(f"{path}: the mask has shape {mask.shape}, its image {image_path} has {shape}")
    return np.flatnonzero(mask)


def has_masks(root: Path) -> bool:
    """Returns True if there is a folder <root>/*/*/masks."""
    return _any_below(root, "masks")


def _recognises(root: Path) -> bool:
    return root.is_dir() and ((root / TRAIN_FOLDER).is_dir() or _any_below(root, "images"))


def _any_below(root: Path, name: str) -> bool:
    return any(path.is_dir() for path in root.glob(f"[!.]*/[!.]*/{name}"))


def _parts(root: Path) -> Mapping[str, Part]:
    parts: dict[str, Part] = {folder.name: partial(_read, root, folder.name, None) for folder in list_folders(root)}
    if TRAIN_FOLDER in parts:
        parts.setdefault("all", parts[TRAIN_FOLDER])
        parts["train"] = partial(_read, root, TRAIN_FOLDER, False)
        parts["val"] = partial(_read, root, TRAIN_FOLDER, True)
    return parts


def _read(root: Path, folder: str, customary: bool | None, report: Report) -> list[Sample]:
    """Lists the samples of a folder: all, or only the customary validation images (True), or the others (False)."""
    modalities = read_modalities(root / CLASSES_FILE)
    samples = []
    for path in list_folders(root / folder):
        if customary is not None and (path.name in VAL_IMAGE_IDS) != customary:
            continue
        try:
            image = _only_image(path)
        except DatasetError as error:
            report(error)
            continue
        masks = path / "masks"
        truth = MaskFolder(masks) if masks.is_dir() and (list_images(masks) or _is_empty(masks)) else None
        samples.append(Sample(path.name, image, truth, folder, modalities.get(path.name, UNKNOWN_MODALITY)))
    return samples


def _is_empty(folder: Path) -> bool:
    return all(path.name[0] == "." for path in folder.iterdir())


def _only_image(folder: Path) -> Path:
    images = folder / "images"
    found = list_images(images) if images.is_dir() else []
    if len(found) != 1:
        raise DatasetError(f"{images}: expected one image file; found {len(found)}")
    return found[0]


LAYOUT = Layout("dsb2018", "stage1_train/<ImageId>/{images,masks}", _recognises, _parts)
