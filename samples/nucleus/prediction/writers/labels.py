"""Label images, `labels/<id>.png` (16 bit) or `.tif` (with the size of a pixel for ImageJ, or as OME-TIFF)."""

from __future__ import annotations

from typing import ClassVar

from nucleus.images.writing import write_labels
from nucleus.prediction.writers.base import Record, Writer

LABELS_FOLDER = "labels"


class PngLabels(Writer):
    """16-bit PNG label images."""

    summary = "label images, 16-bit PNG"

    suffix: ClassVar[str] = ".png"
    by_image = True

    def add(self, record: Record) -> None:
        """Writes the label image of one image.

        Raises:
            ValueError: There are more nuclei than the format can number.
            OSError: The file cannot be written.
        """
        path = self.folder / LABELS_FOLDER / f"{record.id}{self.suffix}"
        write_labels(path, record.labels, record.raw.pixel_size)


class TiffLabels(PngLabels):
    """TIFF label images: uint16 for ImageJ, or int32 in an OME-TIFF above 65,535 nuclei."""

    summary = "label images, TIFF"
    suffix = ".tif"
