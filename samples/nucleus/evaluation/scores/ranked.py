"""Average precision of ranked predictions, as in COCO and as in matterport's Mask_RCNN."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nucleus.evaluation.scores.overlaps import Overlaps


@dataclass(frozen=True)
class CocoScores:
    """COCO's scores of a data set with one class, each in 0..1.

    All are 1 where neither ground truth nor prediction has a nucleus, and 0 where only one of them has.

    Attributes:
        ap: Average precision, mean over the IoU thresholds 0.5, 0.55, ..., 0.95.
        ap50: Average precision at an IoU of 0.5.
        ap75: Average precision at an IoU of 0.75.
        ar: Average recall, mean over the same thresholds.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float


def coco_scores(images: Iterable[tuple[Overlaps, np.ndarray]], max_detections: int | None = None) -> CocoScores:
    """Computes COCO's average precision of masks with pycocotools, from the overlaps of label images.

    Unlike the other scores, it is not a sum over images: all predictions are ranked together, and precision is
    interpolated at 101 recalls (https://cocodataset.org/#detection-eval).

    Args:
        images: (overlaps, scores) of each image, scores float `[P]` in 0..1, `scores[k]` of `predicted_ids[k]`. Only
            the counts of an image are kept in memory.
        max_detections: Number of predictions of an image that count, best first; 100 in COCO. By default all, since
            images of nuclei have more.

    Returns:
        The `CocoScores`.

    Raises:
        ValueError: There is no image, or an image's predictions and scores differ in number.
    """
    pairs, ranked = [], []
    for pair, scores in images:
        ranked.append(_checked(pair, scores))
        pairs.append(pair.without_pixels())
    if not pairs:
        raise ValueError("There is no image to score.")
    true = sum(len(pair.truth_ids) for pair in pairs)
    predicted = sum(len(pair.predicted_ids) for pair in pairs)
    if not true or not predicted:
        value = float(true == predicted)
        return CocoScores(value, value, value, value)
    limit = max_detections or max(len(pair.predicted_ids) for pair in pairs)
    # pycocotools prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _Evaluation(pairs, ranked, limit)
        evaluation.evaluate()
        evaluation.accumulate()
    # Thresholds x recalls x classes x areas x limits; the last three have one entry each.
    precision = evaluation.eval["precision"][:, :, 0, 0, 0].mean(axis=1)
    recall = evaluation.eval["recall"][:, 0, 0, 0]
    at_50, at_75 = (int(np.argmin(np.abs(evaluation.params.iouThrs - threshold))) for threshold in (0.5, 0.75))
    return CocoScores(float(precision.mean()), float(precision[at_50]), float(precision[at_75]), float(recall.mean()))


def score_average_precision(pair: Overlaps, scores: np.ndarray, threshold: float = 0.5) -> float:
    """Computes the average precision of one image as in matterport's Mask_RCNN (`mrcnn.utils.compute_ap`).

    By descending score, each prediction is matched to the unmatched nucleus of largest IoU, if it reaches the
    threshold. The score is the area under the curve of precision, made monotone, against recall.

    Args:
        pair: Overlaps of ground truth and prediction.
        scores: float `[P]`, `scores[k]` of `predicted_ids[k]`.
        threshold: Least IoU of a match, above 0 and at most 1.

    Returns:
        The score in 0..1; 1 where neither ground truth nor prediction has a nucleus (`compute_ap` returns 0), 0 where
        only one of them has.

    Raises:
        ValueError: Predictions and scores differ in number, or the threshold is not in 0..1.
    """
    scores = _checked(pair, scores)
    if not 0 < threshold <= 1:
        raise ValueError(f"The IoU threshold lies in 0..1. Received: {threshold}")
    true, predicted = len(pair.truth_ids), len(pair.predicted_ids)
    if not true or not predicted:
        return float(true == predicted)
    correct = np.cumsum(_correct(pair, scores, threshold))
    precision = correct / np.arange(1, predicted + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(correct / true, prepend=0.0) @ precision)


def _checked(pair: Overlaps, scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.shape != pair.predicted_ids.shape:
        raise ValueError(
            f"Every prediction needs a score. Received: {len(pair.predicted_ids)} predictions, "
            f"scores of shape {scores.shape}"
        )
    return scores


def _correct(pair: Overlaps, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Returns whether each prediction, by descending score, is matched, bool `[P]`."""
    reached = pair.iou >= threshold
    order = np.lexsort((pair.truth_index, -pair.iou, pair.predicted_index))
    order = order[reached[order]]
    candidates: dict[int, list[int]] = {}
    for index in order.tolist():
        candidates.setdefault(int(pair.predicted_index[index]), []).append(int(pair.truth_index[index]))
    taken: set[int] = set()
    correct = np.zeros(len(scores), bool)
    for rank, prediction in enumerate(np.argsort(-scores, kind="stable").tolist()):
        free = next((nucleus for nucleus in candidates.get(prediction, ()) if nucleus not in taken), None)
        if free is not None:
            taken.add(free)
            correct[rank] = True
    return correct


class _Evaluation(COCOeval):
    """COCO's evaluation of one class, with IoU from overlaps instead of run-length codes."""

    def __init__(self, pairs: Sequence[Overlaps], scores: Sequence[np.ndarray], max_detections: int) -> None:
        self._pairs, self._scores, self._max_detections = pairs, scores, max_detections
        truth = _coco([pair.truth_areas for pair in pairs])
        predicted = _coco([pair.predicted_areas for pair in pairs], scores)
        # "bbox", since "segm" would decode masks first; computeIoU below reads no boxes.
        super().__init__(truth, predicted, "bbox")
        self.params.maxDets = [max_detections]
        self.params.areaRng, self.params.areaRngLbl = [[0, np.inf]], ["all"]

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray:
        """Returns the IoU matrix of an image, float64 `[P, T]`, predictions by descending score, for pycocotools."""
        pair = self._pairs[imgId]
        iou = np.zeros((len(pair.predicted_ids), len(pair.truth_ids)))
        iou[pair.predicted_index, pair.truth_index] = pair.iou
        return iou[np.argsort(-self._scores[imgId], kind="mergesort")[: self._max_detections]]


def _coco(areas: Sequence[np.ndarray], scores: Sequence[np.ndarray] | None = None) -> COCO:
    """Returns a pycocotools data set of instances with the given areas, image by image."""
    annotations: list[dict[str, Any]] = []
    for image, values in enumerate(areas):
        for index, area in enumerate(values.tolist()):
            annotation = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "area": area, "iscrowd": 0}
            if scores is not None:
                annotation["score"] = float(scores[image][index])
            annotations.append(annotation)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(len(areas))],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
