"""Fitting of an ensemble to what its members find in a data set: `nucleus ensemble fit` for Python users."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nucleus.datasets.division import choose_folds
from nucleus.datasets.source import ImageSource
from nucleus.ensemble.boosting import import_lightgbm
from nucleus.ensemble.examples import make_examples
from nucleus.ensemble.features import feature_names
from nucleus.ensemble.fitting import FitSettings, fit
from nucleus.ensemble.members import Members
from nucleus.ensemble.model import Ensemble
from nucleus.ensemble.report import FitReport, report
from nucleus.ensemble.running import write_out_of_fold
from nucleus.prediction.detection import DetectionRun
from nucleus.prediction.writers import default_formats


@dataclass(frozen=True)
class MembersFit:
    """An ensemble fitted to its members.

    Attributes:
        ensemble: The ensemble, as it stands in its file.
        report: Tables of the cross-validation.
        predictions: The run that wrote out-of-fold predictions; None if none were asked for.
    """

    ensemble: Ensemble
    report: FitReport
    predictions: DetectionRun | None = None


def fit_members(
    members: Members,
    source: ImageSource,
    output: str | os.PathLike,
    *,
    subset: str = "val",
    folds: int | Path | None = None,
    settings: FitSettings | None = None,
    predictions: str | os.PathLike | None = None,
    formats: Sequence[str] = default_formats(),
) -> MembersFit:
    """Fits an ensemble to images with masks, and writes its file.

    Args:
        members: Weights files or folders of predictions, by name.
        source: The data set.
        output: JSON file to write.
        subset: Images to fit to, which no member was trained on.
        folds: Number of folds of the cross-validation, or a `folds.json`; by default four.
        settings: Settings of the fit, whose seed divides the folds too; by default `FitSettings()`.
        predictions: Folder for the nuclei of these images, each by an ensemble that has not seen its fold; None for
            none.
        formats: Names in `nucleus.prediction.writers.WRITERS`, of the files in that folder.

    Raises:
        ValueError: A member was trained on some of the images, an image, a member or a setting cannot be used, or
            LightGBM is missing.
        OSError: A file cannot be written.
    """
    settings = settings or FitSettings()
    # Missing packages and groups are reported before models run for hours.
    import_lightgbm()
    feature_names(settings.groups, [])
    dataset = source.load(subset)
    print(f"Fitting to {source.describe(subset, dataset.num_images)}")
    members.require_unseen([info["id"] for info in dataset.image_info])
    division = choose_folds(source, subset, folds, settings.seed)
    examples = make_examples(dataset, members.finders(), settings.groups)
    fitted = fit(examples, division.ids, settings)
    summary = report(examples, fitted)
    about = {**fitted.ensemble.about, **summary.values(), **members.about()}
    ensemble = replace(fitted.ensemble, about=about)
    ensemble.save(output)
    if predictions is None:
        return MembersFit(ensemble, summary)
    done, _ = write_out_of_fold(examples, fitted, dataset, predictions, formats)
    return MembersFit(ensemble, summary, done)
