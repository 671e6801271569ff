"""COCO JSON of a run: `coco_instances.json` and, with scores, `coco_results.json` for `COCO.loadRes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.convert import CATEGORY, coco_annotations
from nucleus.images.labels import areas
from nucleus.prediction.writers.base import Record, Writer
from nucleus.prediction.writers.tables import scores_of
from trainkit.files import write_text

INSTANCES_FILE, RESULTS_FILE = "coco_instances.json", "coco_results.json"


class Coco(Writer):
    """Nuclei as compressed run-length codes of one category.

    The file of instances is COCO's format of data sets. That of results is its format of detections, of the same
    images, and is written where scores are known.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._scored = True

    def add(self, record: Record) -> None:
        """Keeps the nuclei of one image; see `Writer.add`."""
        # Ids start from 1, since some programs read 0 as missing.
        number, (height, width) = len(self._images) + 1, record.labels.shape
        self._images.append({"id": number, "file_name": Path(record.file).name, "height": height, "width": width})
        found = coco_annotations(record.labels, number, len(self._annotations) + 1)
        self._annotations += found
        self._scored &= record.scores is not None
        labels = np.flatnonzero(areas(record.labels)) + 1
        for annotation, score in zip(found, scores_of(record, labels).tolist(), strict=True):
            # Without bbox, which makes pycocotools take results for boxes.
            kept = {key: annotation[key] for key in ("image_id", "category_id", "segmentation")}
            self._results.append({**kept, "score": score})

    def close(self) -> None:
        """Writes the files if there was an image; see `Writer.close`."""
        if not self._images:
            return
        content = {"images": self._images, "annotations": self._annotations, "categories": [CATEGORY]}
        write_text(self.folder / INSTANCES_FILE, json.dumps(content) + "\n")
        if self._scored:
            write_text(self.folder / RESULTS_FILE, json.dumps(self._results) + "\n")
