"""ROIs for the ROI manager of ImageJ and Fiji, `rois/<id>.zip`."""

from __future__ import annotations

from nucleus.images.imagej_roi import write_rois
from nucleus.prediction.writers.base import Record, Writer


class Rois(Writer):
    """A ZIP file of ROIs for each image; a ROI is called by the number of its nucleus, and has the score as property.

    An image without nuclei has an empty ZIP file.
    """

    summary = "ROIs for ImageJ and Fiji"
    package = "roifile"
    by_image = True

    def add(self, record: Record) -> None:
        """Writes the file of one image; see `Writer.add`."""
        write_rois(self.folder / "rois" / f"{record.id}.zip", record.labels, record.scores)
