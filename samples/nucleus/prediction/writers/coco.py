"""COCO JSON of a run: `coco_instances.json` and, with scores, `coco_results.json` for `COCO.loadRes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.convert import CATEGORY, coco_annotations
from nucleus.images.labels import areas
from nucleus.prediction.writers.base import Record, Writer
from trainkit.files import write_text

INSTANCES_FILE, RESULTS_FILE = "coco_instances.json", "coco_results.json"


class Coco(Writer):
    """Nuclei as compressed run-length codes of one category.

    The file of instances is COCO's format of data sets. That of results is its format of detections, of the same
    images, and is written where scores are known.
    """

    summary = "COCO JSON, instances and results"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # By the id of the record: entry of the image, its annotations, and their scores, None where not known.
        self._found: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[float] | None]] = {}

    def add(self, record: Record) -> None:
        """Keeps the nuclei of one image; see `Writer.add`."""
        height, width = record.labels.shape
        image = {"file_name": Path(record.file).name, "height": height, "width": width}
        annotations = coco_annotations(record.labels, image_id=0, first_id=0)
        labels = np.flatnonzero(areas(record.labels)) + 1
        scores = None if record.scores is None else np.asarray(record.scores)[labels - 1].tolist()
        self._found[record.id] = image, annotations, scores

    def drop(self, record: Record) -> None:
        """Drops the nuclei of one image; see `Writer.drop`."""
        self._found.pop(record.id, None)

    def close(self) -> None:
        """Writes the files if there was an image; see `Writer.close`."""
        if not self._found:
            return
        images, annotations, results = [], [], []
        # Ids start from 1, since some programs read 0 as missing.
        for number, (image, found, scores) in enumerate(self._found.values(), start=1):
            images.append({"id": number, **image})
            annotations += [
                {**one, "id": identity, "image_id": number} for identity, one in enumerate(found, len(annotations) + 1)
            ]
            # Without bbox, which makes pycocotools take results for boxes.
            results += [
                {
                    "image_id": number,
                    "category_id": one["category_id"],
                    "segmentation": one["segmentation"],
                    "score": score,
                }
                for one, score in zip(found, scores or (), strict=scores is not None)
            ]
        content = {"images": images, "annotations": annotations, "categories": [CATEGORY]}
        write_text(self.folder / INSTANCES_FILE, json.dumps(content) + "\n")
        if all(scores is not None for _, _, scores in self._found.values()):
            write_text(self.folder / RESULTS_FILE, json.dumps(results) + "\n")
