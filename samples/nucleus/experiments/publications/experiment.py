"""What an experiment of a publication consists of: declared here, carried out in `nucleus.experiments.publications.runner`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nucleus.models.config import NucleusConfig, NucleusUNetConfig, inference_settings, make_config
from nucleus.models.weights import Recipe

# Where a training begins that begins with what the one before it has learned.
PREVIOUS = "previous"
# Parts of a data set that scores are told of separately, besides the parts of a test set: by modality, as the data set
# names it ("h&e-purple") or as `nucleus modality` does ("histology", "histology-1", "fluorescence-2").
GROUPS: dict[str, Callable[[str], bool]] = {
    "fluorescence": lambda modality: modality.startswith("fluorescence"),
    "histology": lambda modality: modality.startswith(("h&e", "histology")),
}


@dataclass(frozen=True)
class Citation:
    """A publication.

    Attributes:
        authors: As they stand on it.
        title: Of the publication.
        published: Where and when.
    """

    authors: str
    title: str
    published: str

    def __str__(self) -> str:
        return f"{self.authors}. {self.title}. {self.published}."


@dataclass(frozen=True)
class Source:
    """A data set that a publication used, and how it was divided.

    Attributes:
        name: Of the data set.
        default: Folder that it is looked for in.
        obtain: Where a user gets it.
        tests: Test part -> subset, where the test images come with the data set; otherwise a test set may be given,
            and without one the images set aside are scored.
        fit: Side of the square that whole images are scaled into and padded to, aspect ratio kept; None: as they are.
        folds: Folds that the images are divided into; 0 for the customary division into train and val.
        held_out: Folds, counted from 1, that are held out one after the other, with a training for each.
        limit: Images that are taken of each subset; None for all.
    """

    name: str
    default: str
    obtain: str
    tests: Mapping[str, str] = field(default_factory=dict)
    fit: int | None = None
    folds: int = 0
    held_out: tuple[int, ...] = ()
    limit: int | None = None


@dataclass(frozen=True)
class Training:
    """One training of a model.

    Attributes:
        preset: A name in the model's presets.
        settings: Settings that differ from the preset; see `nucleus.models.config.make_config`.
        weights: What it begins with: "coco", "imagenet", "none", or PREVIOUS.
    """

    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "none"


@dataclass(frozen=True)
class Figure:
    """A score as published.

    Attributes:
        metric: Its name in `nucleus.evaluation.scores.Scores.values`, or "BCE" (cross-entropy of the pixels), "rank_sum" (among
            the published entries of the GlaS challenge) or "picked_<model>" (share of an ensemble's nuclei).
        value: As published; None where it is drawn in a figure only.
        part: Part of the test set, or a name in GROUPS; empty for all images.
    """

    metric: str
    value: float | None
    part: str = ""


@dataclass(frozen=True)
class Experiment:
    """A row of a publication's table.

    Attributes:
        name: What `nucleus reproduce` takes.
        summary: One line.
        citation: The publication.
        place: Table and row, figure or section in it.
        source: The data set.
        model: A name in `nucleus.models.registry.MODELS`, or "ensemble".
        trainings: In order; the last one's model is scored. None of an ensemble.
        figures: What was published of it.
        notes: What the publication leaves open and how it is done here.
        members: Of an ensemble: the experiments whose models it chooses among, with the same source.
        inference: Settings of the model that is scored which its trainings do not have, such as views of an image.
    """

    name: str
    summary: str
    citation: Citation
    place: str
    source: Source
    model: str
    trainings: tuple[Training, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    members: tuple[Experiment, ...] = ()
    inference: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, training: Training, settings: Mapping[str, Any] | None = None) -> Recipe:
        """Returns the settings of one of its trainings.

        Args:
            training: One of `trainings`.
            settings: What a user sets otherwise.
        """
        return Recipe(training.preset, {**training.settings, **(settings or {})}, self.model)

    def inference_config(self, settings: Mapping[str, Any] | None = None) -> NucleusConfig | NucleusUNetConfig:
        """Returns the configuration of the model that is scored.

        Args:
            settings: What a user sets otherwise.

        Raises:
            SettingsError: A setting cannot be used.
        """
        recipe = self.recipe(self.trainings[-1], {**self.inference, **(settings or {})})
        return make_config("inference", recipe.preset, inference_settings(recipe.settings), recipe.model)


def figures(part: str = "", **values: float | None) -> tuple[Figure, ...]:
    """Returns the published scores of one part.

    Args:
        part: See `Figure`.
        **values: Metric -> value.
    """
    return tuple(Figure(metric, value, part) for metric, value in values.items())
