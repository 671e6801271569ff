"""Gallery of the best, median and worst images, with each model's nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import Evaluation
from nucleus.evaluation.inspection import scale_image, shade_matches
from nucleus.prediction.predictions import Predictions

# Longest side of pictures in pixels: larger images are scaled down, and those half as large or less are scaled up.
LONGEST = 640
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Picture:
    """A picture of the gallery.

    Attributes:
        model: Index of the model; None for the image itself.
        pixels: The picture, uint8 `[H, W, 3]` RGB.
        mean_precision: The image's mAP with this model; None for the image itself.
        counts: Numbers of "found", "spurious" and "missed" nuclei at the IoU of detection; None for the image itself.
    """

    model: int | None
    pixels: np.ndarray
    mean_precision: float | None = None
    counts: dict[str, int] | None = None


@dataclass(frozen=True)
class Exhibit:
    """One image of the gallery.

    Attributes:
        kind: "best", "median", "worst", or "only" in a data set of one image.
        image_id: Id of the image.
        modality: Modality of the image.
        shape: (height, width) in pixels.
        nuclei: Number of true nuclei.
        pictures: Picture of the image, then those of each model.
    """

    kind: str
    image_id: str
    modality: str
    shape: tuple[int, int]
    nuclei: int
    pictures: list[Picture]


def choose(scores: Sequence[float], count: int) -> list[tuple[str, int]]:
    """Chooses images by their scores.

    Args:
        scores: Score of each image.
        count: Number of images of each kind, at least 1; fewer if there are not three times as many images.

    Returns:
        (kind, index of the image) of different images: the "best", the "median" and the "worst", by descending score.
        The kind of a single image is "only".
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist()
    if len(order) == 1:
        return [("only", 0)]
    each = min(count, max(1, len(order) // 3))
    best, worst = order[:each], order[-each:]
    rest = order[each:-each]
    start = (len(rest) - each + 1) // 2
    median = rest[max(start, 0) : max(start, 0) + each]
    kinds = (("best", best), ("median", median), ("worst", worst))
    return [(kind, index) for kind, indices in kinds for index in indices]


def make_gallery(
    dataset: NucleusDataset,
    evaluations: Sequence[Evaluation],
    predictions: Sequence[Predictions],
    count: int,
) -> list[Exhibit]:
    """Draws the models' nuclei in the best, median and worst images by mAP, averaged over models.

    Args:
        dataset: Prepared data set with masks.
        evaluations: Evaluation of each model, with rows in the order of the data set.
        predictions: Predictions of each model.
        count: Number of images of each kind.

    Returns:
        The `Exhibit`s, best first.
    """
    scores = np.array([evaluation.images["mAP"].to_numpy() for evaluation in evaluations])
    exhibits = []
    for kind, row in choose(scores.mean(axis=0), count):
        index = dataset.image_ids[row]
        info = dataset.image_info[index]
        truth, _ = dataset.load_labels(index)
        image = stretch_contrast(dataset.load_image(index))
        shape = picture_shape(truth.shape)
        pictures = [Picture(None, scale_image(image, shape))]
        for model, (evaluation, source) in enumerate(zip(evaluations, predictions, strict=True)):
            labels, _ = source.read(dataset, index)
            drawn, counts = shade_matches(image, truth, labels, evaluation.threshold, shape)
            pictures.append(Picture(model, drawn, float(scores[model, row]), counts))
        nuclei = int(evaluations[0].images["true"].iloc[row])
        exhibits.append(Exhibit(kind, info["id"], info["modality"], truth.shape, nuclei, pictures))
    return exhibits


def picture_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) of the picture of an image of `shape`."""
    longest = max(shape)
    scale = LONGEST / longest if longest > LONGEST else LONGEST // longest
    return tuple(max(1, round(side * scale)) for side in shape)


def stretch_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches the contrast of an image so that 0.5 % of its values are 0 and 0.5 % are 255.

    Args:
        image: uint8 `[H, W, 3]` RGB.

    Returns:
        uint8 `[H, W, 3]` RGB, with one scale for all channels; a copy of a uniform image.
    """
    low, high = np.percentile(image, [0.5, 99.5])
    if high <= low:
        return image.copy()
    return np.clip((image - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


def encode(pixels: np.ndarray, suffix: str) -> bytes:
    """Encodes a picture as a file.

    Args:
        pixels: uint8 `[H, W, 3]` RGB.
        suffix: ".png", or ".jpg" in the quality of the page.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == ".jpg" else []
    written, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not written:
        raise OSError(f"OpenCV could not make a {suffix} file of a picture of shape {pixels.shape}.")
    return data.tobytes()
