"""Images of an experiment: divisions into images to train on and images held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.folds import FOLDS_FILE, Folds, divide_images, read_folds
from nucleus.datasets.source import ImageSource
from nucleus.experiments.publications.experiment import PublishedDataSet
from nucleus.images.decoding import NO_CHOICE, Planes

# The customary division of a data set, see `nucleus.datasets.layouts.subsets`.
TRAIN, VAL = "train", "val"
# The images that are divided into folds.
ALL_FOLDS = f"{TRAIN}+{VAL}"


@dataclass(frozen=True)
class Division:
    """One division of the images.

    Attributes:
        name: Name of the division's folder: "fold1", or "run" without folds.
        train: Subset to train on, and ids of images in it; None for all.
        val: Subset held out, and ids of images in it; None for all.
        folds: Folds of the data set, with the number of the one held out; None without folds.
    """

    name: str
    train: tuple[str, frozenset[str] | None]
    val: tuple[str, frozenset[str] | None]
    folds: Folds | None = None


@dataclass(frozen=True)
class Images:
    """A data set with the division of an experiment.

    Attributes:
        source: The experiment's data set and division.
        root: Folder of the data set, or its single CSV or JSON file.
        layout: A name in `nucleus.datasets.layouts.LAYOUTS`; None to detect it.
        classes: CSV file with modalities of these and possibly other images; None for the modalities of the data set.
            See `NucleusDataset`.
        planes: Choice of channel, plane, frame and scene in files that hold several.
    """

    source: PublishedDataSet
    root: Path
    layout: str | None = None
    classes: Path | None = None
    planes: Planes = NO_CHOICE

    def load(self, subset: str, only: Collection[str] | None = None, fit: int | None = None) -> NucleusDataset:
        """Reads a subset.

        Args:
            subset: See `nucleus.datasets.layouts.subsets`.
            only: Ids of the images to keep; None for all, up to the source's limit.
            fit: See `NucleusDataset`.

        Returns:
            The data set, prepared.

        Raises:
            DatasetError: The data set or subset does not exist, or an image cannot be used; the message says how to
                obtain the data set.
        """
        if only is None and self.source.limit is not None:
            only = {info["id"] for info in spread(self._read(subset).image_info, self.source.limit)}
        return self._read(subset, only, fit)

    def ids(self, subset: str) -> set[str]:
        """Returns the ids of all images of a subset.

        Args:
            subset: See `nucleus.datasets.layouts.subsets`.

        Raises:
            DatasetError: See `load`.
        """
        return {info["id"] for info in self._read(subset).image_info}

    def divisions(self, folder: Path, held_out: Sequence[int] = ()) -> Iterator[Division]:
        """Divides the images into those to train on and those held out, once for every held-out fold.

        Args:
            folder: Folder of the run, where the folds are saved for a resumed run.
            held_out: Folds to hold out instead of the source's, duplicates ignored; empty for the source's.

        Yields:
            The divisions.

        Raises:
            DatasetError: See `load`; or the saved folds are of other images.
        """
        if not self.source.folds:
            yield Division("run", (TRAIN, None), (VAL, None))
            return
        folds = self._folds(folder / FOLDS_FILE)
        for number in dict.fromkeys(held_out or self.source.held_out):
            train_ids, val_ids = map(frozenset, folds.split(number))
            own = replace(folds, held_out=number)
            yield Division(f"fold{number}", (ALL_FOLDS, train_ids), (ALL_FOLDS, val_ids), own)

    def _read(self, subset: str, only: Collection[str] | None = None, fit: int | None = None) -> NucleusDataset:
        images = ImageSource(self.root, self.layout, self.classes, planes=self.planes)
        try:
            return images.load(subset, only, fit, require_classes=False)
        except DatasetError as error:
            raise DatasetError(f"{error}. {self.source.obtain}") from error

    def _folds(self, path: Path) -> Folds:
        infos = self.load(ALL_FOLDS).image_info
        if path.is_file():
            folds = read_folds(path)
            if {name for fold in folds.ids for name in fold} != {info["id"] for info in infos}:
                raise DatasetError(
                    f"{path}: these are folds of other images than those of {self.root}. Choose another output folder."
                )
            return folds
        folds = divide_images(infos, self.source.folds)
        folds.save(path)
        return folds


def spread(infos: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Returns a selection of images: of as many modalities as possible, and small ones.

    Args:
        infos: Entries of `image_info`.
        limit: Number of images.

    Returns:
        The images with the smallest files of each modality, in the order of `infos`.
    """
    seen: Counter[str] = Counter()
    ranked = []
    for size, position in sorted((Path(info["path"]).stat().st_size, position) for position, info in enumerate(infos)):
        modality = infos[position]["modality"]
        ranked.append((seen[modality], size, position))
        seen[modality] += 1
    return [infos[position] for position in sorted(position for *_, position in sorted(ranked)[:limit])]
