"""A data set as a user names it, read subset by subset."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.layouts import count_images, explain_subset
from nucleus.datasets.layouts.base import DatasetError
from nucleus.images.decoding import NO_CHOICE, Planes

# Data set of commands that name none, and how to obtain it.
DEFAULT_DATASET = Path("datasets/nucleus")
HOW_TO_OBTAIN = f"""\
The images of the 2018 Data Science Bowl do not come with this project. Get stage1_train.zip (and stage1_test.zip)
  from https://bbbc.broadinstitute.org/BBBC038 (BBBC038v1, CC0, no account), or
  from https://www.kaggle.com/c/data-science-bowl-2018/data (an account is needed),
and unpack each into a folder of its name: {DEFAULT_DATASET}/stage1_train/<ImageId>/{{images,masks}}/*.png"""


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
            DatasetError: The data set, an image, or an id of `only`, is missing.
        """
        if self.path == DEFAULT_DATASET and not self.path.exists():
            raise DatasetError(
                f"{self.path}: there is no such folder, and no data set is named (--dataset=PATH).\n{HOW_TO_OBTAIN}"
            )
        limit = {} if self.memory_limit is None else {"memory_limit": self.memory_limit}
        dataset = NucleusDataset(fit=fit, planes=self.planes, pixel_size=self.pixel_size, **limit)
        dataset.load_nucleus(self.path, subset, layout=self.layout, classes=self.classes, **options)
        if only is not None:
            dataset.keep_images(only, f"{self.path}, {subset}")
        dataset.prepare()
        return dataset

    def describe(self, subset: str, count: int) -> str:
        """Describes how a subset was chosen, and how much of the data set it is.

        Args:
            subset: Name of the subset, as `load` takes it.
            count: Number of images of the subset.

        Returns:
            Such as "4 of 20 images (val: a fifth, set aside by a hash of the ids, since no part is called val)"; "20
            images (train+val)" where these are all.
        """
        total = count_images(self.path, self.layout)
        if count >= total:
            return f"{count} images ({subset})"
        why = explain_subset(self.path, subset, self.layout)
        return f"{count} of {total} images ({why})"
