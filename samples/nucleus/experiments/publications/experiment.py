"""An experiment of a publication: data set, trainings, published figures and open questions.

`nucleus.experiments.publications.reading` reads experiments from files, `runner` carries them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nucleus.models.recipe import Recipe
from nucleus.models.registry import ModelConfig, detection_config, make_config

# Initial weights of a training that continues from the training before it.
PREVIOUS = "previous"
# The model of an experiment that combines the models of other experiments.
ENSEMBLE = "ensemble"
# Scores that are none of `nucleus.evaluation.scores.Scores.values`: the binary cross-entropy of the pixels, and the
# rank sum among the published entries of the GlaS challenge.
BCE, RANK_SUM = "BCE", "rank_sum"
# Parts of a data set that are scored separately, besides the parts of a test set: by modality, as the data set names it
# ("h&e-purple") or as `nucleus modality` does ("histology", "histology-1", "fluorescence-2").
GROUPS: dict[str, Callable[[str], bool]] = {
    "fluorescence": lambda modality: modality.startswith("fluorescence"),
    "histology": lambda modality: modality.startswith(("h&e", "histology")),
}


@dataclass(frozen=True)
class Citation:
    """A publication.

    Attributes:
        authors: Authors as printed on the publication.
        title: Title of the publication.
        published: Kind or place of publication, and the year.
    """

    authors: str
    title: str
    published: str

    def __str__(self) -> str:
        return f"{self.authors}. {self.title}. {self.published}."


@dataclass(frozen=True)
class PublishedDataSet:
    """A data set of a publication, and its division.

    Attributes:
        name: Name of the data set.
        default: Folder in which the data set is expected.
        obtain: Instructions for downloading the data set.
        tests: Test part -> subset, where the test images come with the data set. Empty where they do not: a user may
            then name a test set, and without one the held-out images are scored.
        fit: Side, in pixels, of the square that whole images are scaled into and padded to, aspect ratio kept; None
            leaves images at their size.
        folds: Number of folds; 0 for the customary division into train and val.
        held_out: Folds, counted from 1, that are held out one after the other, with a training for each.
        limit: Maximum number of images of each subset; None for all.
        learns_scored: True if models are trained on the images held out, so that their scores show nothing but that the
            images were learnt.
    """

    name: str
    default: str
    obtain: str
    tests: Mapping[str, str] = field(default_factory=dict)
    fit: int | None = None
    folds: int = 0
    held_out: tuple[int, ...] = ()
    limit: int | None = None
    learns_scored: bool = False


@dataclass(frozen=True)
class Training:
    """One training of a model.

    Attributes:
        preset: A name in the model's presets.
        settings: Settings on top of the preset; see `nucleus.models.registry.make_config`.
        weights: Initial weights: "coco", "imagenet", "none" for random ones, or PREVIOUS.
        start: File of initial weights in place of `weights`; None for none.
    """

    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "none"
    start: Path | None = None


@dataclass(frozen=True)
class Figure:
    """A published score.

    Attributes:
        metric: A name in `nucleus.evaluation.scores.Scores.values`, BCE, RANK_SUM, or "picked_<model>" (share of an
            ensemble's nuclei that come from a model).
        value: The published value; None where it is drawn as a curve only.
        part: Part of the test set, or a name in GROUPS; empty for all images.
    """

    metric: str
    value: float | None
    part: str = ""


@dataclass(frozen=True)
class Experiment:
    """A row of a publication's table.

    Attributes:
        name: Unique name, which `nucleus reproduce` takes.
        summary: Description of one line.
        citation: The publication.
        place: Table and row, figure or section of the publication.
        source: The data set and its division.
        model: A name in `nucleus.models.registry.NETWORKS`, or ENSEMBLE.
        trainings: Trainings in their order; the model of the last one is scored. Empty for an ensemble.
        figures: The published scores.
        notes: Details that the publication leaves open, and the choices made here.
        members: Experiments whose models an ensemble combines, all with the ensemble's data set and folds.
        inference: Settings of the scored model that its trainings do not have, such as test-time augmentation.
        whole_epochs: True if an epoch is one pass over the training images, instead of STEPS_PER_EPOCH steps.
        ranked_as: Published entry of the GlaS challenge that the experiment repeats, and whose place it takes in the
            rank sum; None for none.
    """

    name: str
    summary: str
    citation: Citation
    place: str
    source: PublishedDataSet
    model: str
    trainings: tuple[Training, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    members: tuple[Experiment, ...] = ()
    inference: Mapping[str, Any] = field(default_factory=dict)
    whole_epochs: bool = False
    ranked_as: str | None = None

    def recipe(
        self, training: Training, settings: Mapping[str, Any] | None = None, images: int | None = None
    ) -> Recipe:
        """Returns the recipe of the weights that a training produces.

        Args:
            training: One of `trainings`.
            settings: Settings on top of the training's.
            images: Number of training images, from which the steps of `whole_epochs` follow; None where only the
                network matters.
        """
        chosen = {**training.settings, **(settings or {})}
        if self.whole_epochs and images is not None:
            batch = make_config("training", training.preset, chosen, self.model).BATCH_SIZE
            chosen = {**training.settings, "STEPS_PER_EPOCH": math.ceil(images / batch), **(settings or {})}
        return Recipe(training.preset, chosen, self.model)

    def training_config(self, training: Training) -> ModelConfig:
        """Returns the configuration of a training.

        Args:
            training: One of `trainings`.

        Raises:
            SettingsError: The preset is unknown, or a setting is unknown or has a value that cannot be used.
        """
        return make_config("training", training.preset, training.settings, self.model)

    def inference_config(self, settings: Mapping[str, Any] | None = None) -> ModelConfig:
        """Returns the configuration of the scored model.

        Args:
            settings: Settings on top of the experiment's.

        Raises:
            SettingsError: A setting is unknown or has a value that cannot be used.
        """
        return detection_config(self.recipe(self.trainings[-1], {**self.inference, **(settings or {})}))
