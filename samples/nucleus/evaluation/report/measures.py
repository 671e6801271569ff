"""Names, directions, definitions and sources of the scores."""

from __future__ import annotations

from dataclasses import dataclass

DSB = "2018 Data Science Bowl"
VUOLA = "Vuola, Nuclei segmentation using computer vision, 2019"
LEHMANN = (
    "Lehmann, Agarwal, Lund, Semantic segmentation of cells from clinical images using deep learning, 2020, "
    "section 8.0.2"
)
PANOPTIC = "Kirillov et al., Panoptic segmentation, 2019, section 4.2"
GLAS = "Sirinukunwattana et al., Gland segmentation in colon histology images, 2017, section 5"
COCO = "cocodataset.org/#detection-eval, by pycocotools"
LINEAGE = "compute_ap of matterport's Mask_RCNN, as PASCAL VOC without its eleven points"


@dataclass(frozen=True)
class Measure:
    """One score.

    Attributes:
        key: Name of the score, and its column in `Evaluation.summary`.
        better: Direction of better values: "more", "less", or "" for neither.
        digits: Number of decimals.
        definition: Definition of the score, with `{threshold}` for the IoU of detection.
        source: Publication of the definition; "" for textbook terms.
    """

    key: str
    better: str
    digits: int
    definition: str
    source: str = ""

    def text(self, value: float) -> str:
        """Formats a value for tables."""
        return f"{value:.{self.digits}f}"

    def defined(self, threshold: float) -> str:
        """Returns the definition, given the IoU above which a nucleus counts as found."""
        return self.definition.replace("{threshold}", f"{threshold:g}")

    @property
    def arrow(self) -> str:
        """Direction of better values as an arrow, "" for neither."""
        return {"more": "↑", "less": "↓", "": ""}[self.better]


def _coco(key: str, definition: str) -> Measure:
    return Measure(
        key, "more", 3, f"{definition}, of all nuclei ranked by score, all predictions of an image counted", COCO
    )


MAIN = (
    Measure("mAP", "more", 3, "mean over images of the mean over IoU 0.5, 0.55, … 0.95 of TP / (TP + FP + FN)", DSB),
    Measure("AP50", "more", 3, "mean over images of TP / (TP + FP + FN) at an IoU of 0.5", DSB),
    Measure("AP75", "more", 3, "the same at an IoU of 0.75", DSB),
    Measure(
        "precision", "more", 3, "TP / (TP + FP) of all nuclei, at an IoU of {threshold}", f"{VUOLA}, section 4.4.4"
    ),
    Measure("recall", "more", 3, "TP / (TP + FN) of all nuclei, at an IoU of {threshold}", f"{VUOLA}, section 4.4.4"),
    Measure("F1", "more", 3, "2 TP / (2 TP + FP + FN) of all nuclei, at an IoU of {threshold}"),
    Measure(
        "Dice", "more", 3, "mean over images of 2 |A ∩ B| / (|A| + |B|) of the foregrounds", f"{VUOLA}, equation 4.3"
    ),
    Measure("IoU", "more", 3, "mean over images of |A ∩ B| / |A \u222a B| of the foregrounds"),
    Measure(
        "PQ", "more", 3, "panoptic quality of all nuclei: SQ times RQ, nuclei matched above an IoU of 0.5", PANOPTIC
    ),
    Measure(
        "oseg",
        "less",
        0,
        "over-segmentations: true nuclei, not found at an IoU of {threshold}, that contain more than half of the "
        "pixels of two or more predictions",
        f"{VUOLA}, section 4.4.4 and figure 4.8",
    ),
    Measure(
        "useg",
        "less",
        0,
        "under-segmentations: predictions, unmatched at an IoU of {threshold}, that contain more than half of the "
        "pixels of two or more true nuclei",
        f"{VUOLA}, section 4.4.4 and figure 4.8",
    ),
    Measure("predicted", "", 0, "number of predicted nuclei"),
)

FURTHER = (
    Measure("SQ", "more", 3, "segmentation quality: mean IoU of the nuclei matched above 0.5", PANOPTIC),
    Measure("RQ", "more", 3, "recognition quality: F1 at an IoU of 0.5", PANOPTIC),
    Measure("count_error", "less", 1, "mean over images of |predicted - true|, in nuclei"),
    Measure("count_ratio", "more", 3, "mean over images of the smaller of the two numbers over the larger", LEHMANN),
    Measure(
        "object_F1",
        "more",
        3,
        "F1 of detection, where a prediction covers more than half of the nucleus it shares most pixels with",
        GLAS,
    ),
    Measure(
        "object_Dice",
        "more",
        3,
        "Dice of each object and its counterpart, weighted by area, averaged over truth and prediction",
        GLAS,
    ),
    Measure(
        "object_Hausdorff",
        "less",
        1,
        "Hausdorff distance of each object and its counterpart in pixels, weighted and averaged likewise",
        GLAS,
    ),
    _coco("COCO_AP", "average precision, mean over IoU 0.5 to 0.95"),
    _coco("COCO_AP50", "average precision at an IoU of 0.5"),
    _coco("COCO_AP75", "average precision at an IoU of 0.75"),
    _coco("COCO_AR", "average recall, mean over IoU 0.5 to 0.95"),
    Measure(
        "VOC_AP50",
        "more",
        3,
        "mean over images of the area under precision against recall at an IoU of 0.5, nuclei ranked by score",
        LINEAGE,
    ),
)
