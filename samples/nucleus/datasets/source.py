"""A data set as a user names it, read subset by subset."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.decoding import NO_CHOICE, Planes


@dataclass(frozen=True)
class ImageSource:
    """A data set of any layout.

    Attributes:
        path: Folder of the data set, or its one CSV or JSON file.
        layout: Name in `nucleus.datasets.layouts.LAYOUTS`; None to detect it.
        classes: CSV file with the modality of every image; None for what the data set says.
        memory_limit: Bytes of decoded images and label images that each subset keeps in memory; None for the default of
            `NucleusDataset`.
        planes: Choice of channel, plane and frame in files that hold several.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.
    """

    path: Path
    layout: str | None = None
    classes: Path | None = None
    memory_limit: int | None = None
    planes: Planes = NO_CHOICE
    pixel_size: float | None = None

    def load(
        self, subset: str, only: Collection[str] | None = None, fit: int | None = None, **options: Any
    ) -> NucleusDataset:
        """Reads a subset.

        Args:
            subset: "train", "val", "all", the name of a part, or names joined by "+"; see
                `nucleus.datasets.layouts.subsets`.
            only: Ids of the images to keep; by default all.
            fit: Side of the square that images are scaled into, see `NucleusDataset`; None for none.
            options: Other arguments of `NucleusDataset.load_nucleus`.

        Returns:
            The prepared data set.

        Raises:
            DatasetError: An image, or an id of `only`, is missing.
        """
        limit = {} if self.memory_limit is None else {"memory_limit": self.memory_limit}
        dataset = NucleusDataset(fit=fit, planes=self.planes, pixel_size=self.pixel_size, **limit)
        dataset.load_nucleus(self.path, subset, layout=self.layout, classes=self.classes, **options)
        if only is not None:
            dataset.keep_images(only, f"{self.path}, {subset}")
        dataset.prepare()
        return dataset
