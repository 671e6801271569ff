"""Test sets of experiments, read and checked before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nucleus.datasets.dataset import DatasetError, NucleusDataset, read_modalities
from nucleus.datasets.layouts.base import UNKNOWN_MODALITY
from nucleus.evaluation.scores.sums import Sums
from nucleus.experiments.publications.experiment import GROUPS, Experiment, PublishedDataSet
from nucleus.experiments.publications.images import Images
from nucleus.experiments.publications.scoring import modality_parts, sum_scores
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.base import NucleusModel
from nucleus.prediction.predictions import Predictions

_log = logging.getLogger(__name__)


def as_test_set(
    source: PublishedDataSet,
    root: Path,
    subset: str | None = None,
    layout: str | None = None,
    classes: Path | None = None,
    planes: Planes = NO_CHOICE,
) -> Images:
    """Returns a data set that a user names to be scored instead of the experiment's own images.

    Args:
        source: The experiment's data set, whose test parts the returned one has too.
        root: Folder of the test set, or its single CSV or JSON file.
        subset: Subset of the test set; None for all, or for the test parts.
        layout: Layout of the test set; see `Images`.
        classes: CSV file with modalities; see `Images`.
        planes: Choice of channel, plane, frame and scene; see `Images`.

    Raises:
        ValueError: A subset is chosen although the experiment has test parts.
    """
    advice = "This is the test set: --test, --test-subset and --test-layout choose its images."
    if source.tests:
        parts = " and ".join(source.tests.values())
        advice = f"This is the test set (--test, --test-layout), of which {parts} are scored, each by itself."
        if subset is not None:
            raise ValueError(f"{parts} are scored, each by itself: --test-subset={subset} has no place here.")
    tests = source.tests or {"": subset or "all"}
    return Images(replace(source, tests=tests, obtain=advice), root, layout, classes, planes)


@dataclass(frozen=True)
class Scored:
    """A test set whose images are read and whose label images are cached.

    Attributes:
        on: Description of the images in words.
        parts: Part -> images. The images of the part "" are scored together and by modality.
    """

    on: str
    parts: Mapping[str, NucleusDataset]

    @classmethod
    def of(cls, images: Images, on: str = "") -> Scored:
        """Reads the test parts of a data set.

        Args:
            images: The data set.
            on: Words in front of the subsets' names.

        Raises:
            DatasetError: A part is missing, or an image or mask cannot be used.
            nucleus.images.reading.ImageFileError: A file cannot be used.
        """
        parts = {part: images.load(subset) for part, subset in images.source.tests.items()}
        for dataset in parts.values():
            dataset.cache_labels()
        return cls(on + "+".join(images.source.tests.values()), parts)

    @property
    def infos(self) -> list[dict[str, Any]]:
        """Entries of `image_info` of all parts."""
        return [info for dataset in self.parts.values() for info in dataset.image_info]

    def sum_scores(self, predictions: Predictions, unet: NucleusModel | None = None) -> dict[str, list[Sums]]:
        """Scores predictions on every part; see `nucleus.experiments.publications.scoring.sum_scores`.

        Args:
            predictions: Predictions of every image.
            unet: U-Net of which the cross-entropy of the pixels is measured too; None for none.

        Returns:
            Part -> summed scores of its images.
        """
        measured: dict[str, list[Sums]] = {}
        for part, dataset in self.parts.items():
            named = (lambda _, part=part: [part]) if part else modality_parts
            measured.update(sum_scores(predictions, dataset, named, unet))
        return measured


def require_named(classes: Path, chosen: Iterable[tuple[Images, str]]) -> None:
    """Checks that a file with modalities names images in use.

    Args:
        classes: CSV file with modalities.
        chosen: Data sets, each with a subset; they are read up to the first of which the file names an image.

    Raises:
        DatasetError: The file is missing or malformed, or names none of the images; or these cannot be read.
    """
    if not classes.is_file():
        raise DatasetError(f"{classes}: there is no such file")
    modalities = read_modalities(classes)
    if not any(modalities.keys() & images.ids(subset) for images, subset in chosen):
        raise DatasetError(f"{classes}: names none of the images")


def warn_of_unknown_modalities(experiment: Experiment, infos: list[dict[str, Any]]) -> None:
    """Warns of published scores that stay unmeasured because the modality of images is unknown.

    Args:
        experiment: The experiment.
        infos: Entries of `image_info` of the images to be scored.
    """
    groups = dict.fromkeys(figure.part for figure in experiment.figures if figure.part in GROUPS)
    empty = [name for name in groups if not any(GROUPS[name](info["modality"]) for info in infos)]
    unknown = sum(info["modality"] == UNKNOWN_MODALITY for info in infos)
    if empty and unknown:
        _log.warning(
            "%s: the figures of %s stay empty, as the modality of %d of the %d images that are scored is not known. "
            "--classes=FILE names it; `nucleus modality --dataset=PATH` estimates it",
            experiment.name,
            " and ".join(empty),
            unknown,
            len(infos),
        )
