"""Detections for QuPath with measurements and scores, `geojson/<id>.geojson`."""

from __future__ import annotations

import json

from nucleus.images.geojson import nuclei_as_features
from nucleus.prediction.writers.base import Record, Writer
from nucleus.prediction.writers.tables import NUCLEI
from trainkit.files import write_text


class GeoJson(Writer):
    """GeoJSON with a detection for each nucleus, called by its number; measurements are the columns of the table."""

    summary = "detections for QuPath, with measurements and scores"
    by_image = True

    def add(self, record: Record) -> None:
        """Writes the file of one image; see `Writer.add`."""
        table = NUCLEI.rows(record).drop(columns="ImageId").set_index("label")
        measurements = {int(label): row for label, row in zip(table.index, table.to_dict("records"), strict=True)}
        content = nuclei_as_features(record.labels, measurements, record.id)
        write_text(self.folder / "geojson" / f"{record.id}.geojson", json.dumps(content, allow_nan=False) + "\n")
