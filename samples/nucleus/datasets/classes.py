"""Modalities of images as `classes.csv`, or another file of its kind, names them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nucleus.datasets.layouts.base import EVERY_MODALITY, UNKNOWN_MODALITY, DatasetError, Sample
from nucleus.datasets.layouts.tables import CLASSES_FILE, read_modalities

_log = logging.getLogger(__name__)


def with_modalities(
    samples: Sequence[Sample], folder: Path, classes: str | os.PathLike | None, require_classes: bool
) -> list[Sample]:
    """Returns samples with the modalities that a file names.

    Args:
        samples: Samples with the modalities that the data set's own files name.
        folder: Folder of the data set, whose `classes.csv` fills gaps where `classes` is None.
        classes: CSV file that overrides the data set's own modalities; None for none.
        require_classes: True to refuse `classes` if it names none of the images.

    Raises:
        DatasetError: `classes` is missing, or names none of the images although it must, or a file is malformed; or a
            modality is called "all".
    """
    if classes is None:
        known = read_modalities(folder / CLASSES_FILE)
        gaps = (sample.id for sample in samples if sample.modality == UNKNOWN_MODALITY)
        known = {name: known[name] for name in gaps if name in known}
    elif not Path(classes).is_file():
        raise DatasetError(f"{classes}: there is no such file")
    else:
        known = read_modalities(classes)
        if require_classes and samples and not any(sample.id in known for sample in samples):
            raise DatasetError(f"{classes}: names none of the images, such as {samples[0].id}")
        unnamed = [sample.id for sample in samples if sample.id not in known]
        if unnamed and len(unnamed) < len(samples):
            _log.warning(
                "%s: does not name %d of %d images, such as %s", classes, len(unnamed), len(samples), unnamed[0]
            )
    samples = [replace(sample, modality=known.get(sample.id, sample.modality)) for sample in samples]
    mistaken = next((sample.id for sample in samples if sample.modality == EVERY_MODALITY), None)
    if mistaken is not None:
        raise DatasetError(
            f"{classes or folder}: the modality of {mistaken} is called {EVERY_MODALITY!r}, as the scores of all "
            "images are; give it another name"
        )
    return samples
