"""Table 2 of the MLP report: a small U-Net and a sweep over Mask R-CNN's sizes, suppression and anchors."""

from __future__ import annotations

from nucleus.experiments.publications.experiment import Citation, Experiment, Training, figures
from nucleus.experiments.publications.sources import DSB2018

CITATION = Citation(
    "s1756643, s1757323, s1777706", "MLP Coursework 4 - G1", "Report on Mask R-CNN for nuclei segmentation, 2018"
)
_COMMON = (
    "The table's IoU score is what Kaggle returned for its hidden test set, so the contest's mean over IoU thresholds: "
    "mAP. Without --test the customary 25 validation images are scored.",
)


def _row(name: str, row: str, summary: str, iou: float, model: str, training: Training, *notes: str) -> Experiment:
    return Experiment(
        name=f"mlp-{name}",
        summary=summary,
        citation=CITATION,
        place=f"table 2, {row}",
        source=DSB2018,
        model=model,
        trainings=(training,),
        figures=figures(mAP=iou),
        notes=(*notes, *_COMMON),
    )


def _unet(side: int, iou: float) -> Experiment:
    changes = {} if side == 128 else {"IMAGE_SIZE": side}
    return _row(
        f"unet-{side}",
        f"UNet {side} x {side}",
        f"U-Net of 1.9 million weights, images resized to {side} x {side}",
        iou,
        "unet",
        Training("small", {"CLAHE": True, "AUGMENTATION": "flips-rotations", **changes}),
        "The report says of its earlier baseline that CLAHE and augmentation helped; both are applied here (sections "
        "2.4 and 2.6). How the network was trained it does not say: see the preset.",
    )


def _mask_rcnn(preset: str, side: int, nms: float, anchors: str, iou: float) -> Experiment:
    return _row(
        preset.removeprefix("resnet101-"),
        f"Mask R-CNN {side} x {side}, NMS {nms}, anchors {anchors}",
        f"Mask R-CNN, ResNet-101, {side} x {side}, NMS {nms}, anchors {anchors}",
        iou,
        "mask_rcnn",
        Training(preset, weights="coco"),
        "Stages are not given; they are those of the code that the report adapted: heads, then all layers. Which of "
        "the two suppressions the threshold belongs to, and how many RoIs were kept, is not said either: see the "
        "preset.",
    )


EXPERIMENTS = (
    _unet(128, 0.315),
    _unet(512, 0.354),
    _mask_rcnn("resnet101-512-nms02", 512, 0.2, "8 to 128", 0.365),
    _mask_rcnn("resnet101-512-nms06", 512, 0.6, "8 to 128", 0.379),
    _mask_rcnn("resnet101-512-nms06-anchors4", 512, 0.6, "4 to 64", 0.379),
    _mask_rcnn("resnet101-1024-nms06", 1024, 0.6, "8 to 128", 0.359),
    _mask_rcnn("resnet101-1024-nms06-anchors16", 1024, 0.6, "16 to 256", 0.354),
)
