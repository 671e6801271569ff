"""The images that an experiment is scored on, found before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nucleus.dataset import NucleusDataset
from nucleus.recipes.experiment import Source
from nucleus.recipes.images import Images
from nucleus.recipes.measure import measure, modality_parts
from nucleus.scores.sums import Sums


def as_test_set(
    source: Source, root: Path, subset: str | None = None, layout: str | None = None, classes: Path | None = None
) -> Images:
    """Returns another data set, which a user has scored instead of what the experiment says.

    Args:
        source: The experiment's, whose test parts the other one has then.
        root: The other one's folder, or its one CSV or JSON file.
        subset: Of it; None for all, or for the test parts.
        layout: See `Images`.
        classes: Likewise.

    Raises:
        ValueError: A subset is chosen where there are test parts.
    """
    advice = "This is the test set: --test, --test-subset and --test-layout choose its images."
    if source.tests:
        parts = " and ".join(source.tests.values())
        advice = f"This is the test set (--test, --test-layout), of which {parts} are scored, each by itself."
        if subset is not None:
            raise ValueError(f"{parts} are scored, each by itself: --test-subset={subset} has no place here.")
    tests = source.tests or {"": subset or "all"}
    return Images(replace(source, tests=tests, obtain=advice), root, layout, classes)


@dataclass(frozen=True)
class Scored:
    """A test set that is read, and labels made of its masks.

    Attributes:
        on: Which images these are, in words.
        parts: Part -> its images. With a part "" all together and those of each modality are told of.
    """

    on: str
    parts: Mapping[str, NucleusDataset]

    @classmethod
    def of(cls, images: Images, on: str = "") -> Scored:
        """Reads the test parts of a data set.

        Args:
            images: The data set.
            on: What comes before the subsets' names in words.

        Raises:
            DatasetError: A part is missing, or an image or mask cannot be used.
            nucleus.images.ImageFileError: A file cannot be used.
        """
        parts = {part: images.load(subset) for part, subset in images.source.tests.items()}
        for dataset in parts.values():
            dataset.cache_labels()
        return cls(on + "+".join(images.source.tests.values()), parts)

    def measure(self, model: Any, entropy: bool) -> dict[str, list[Sums]]:
        """Scores a model on every part; see `nucleus.recipes.measure.measure`."""
        measured: dict[str, list[Sums]] = {}
        for part, dataset in self.parts.items():
            named = (lambda _, part=part: [part]) if part else modality_parts
            measured.update(measure(model, dataset, named, entropy))
        return measured
