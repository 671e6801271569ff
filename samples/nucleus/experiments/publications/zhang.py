"""Zhang, Wei and Yue: FCN-8s with an opening, and Mask R-CNN with a sweep over its proposals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nucleus.experiments.publications.experiment import Citation, Experiment, Source, Training, figures
from nucleus.experiments.publications.sources import DSB2018

CITATION = Citation(
    "Zihan Zhang, Yi Wei, Zhengjun Yue", "MLP Coursework 4: Instance Segmentation of Nucleus Images", "Report, 2018"
)
_FOLDS = 10
# One of ten folds is the share of 67 images among 670 that the report validates Mask R-CNN on.
_ONE_FOLD = replace(DSB2018, folds=_FOLDS, held_out=(1,))
_DRAWN = "The score is drawn as a curve over epochs, without a number; measured is that after the last epoch."
_TEST = (
    "Published is the score on the 65 images of the contest's first test set; without --test it is that of the fold."
)


def _mask_rcnn(
    name: str, summary: str, place: str, preset: str, mean_ap: float | None, *notes: str, **settings: Any
) -> Experiment:
    return Experiment(
        name=f"zhang-{name}",
        summary=f"Mask R-CNN, ResNet-101, {summary}",
        citation=CITATION,
        place=place,
        source=_ONE_FOLD,
        model="mask_rcnn",
        trainings=(Training(preset, settings, weights="coco"),),
        figures=figures(mAP=mean_ap),
        notes=(
            "603 images to train on and 67 to validate on (section 3.1): here nine folds of ten and the tenth.",
            "Channel means are those of COCO's images (section 3.1).",
            "Of an image 100 masks are predicted, as in section 3.4.1: what has more nuclei is not found in full.",
            "Weights are COCO's except for the head structure (section 3.4.2). Here only the last layers of the heads "
            "begin untrained, whose shape goes with the number of classes, as in the samples of the code that the "
            "report modified.",
            "The RPN learns together with the rest; the report speaks of two separate trainings with one backbone.",
            *notes,
        ),
    )


def _fcn(source: Source) -> Experiment:
    return Experiment(
        name="zhang-fcn8s",
        summary="FCN-8s on VGG16, then a morphological opening, 10-fold cross-validation",
        citation=CITATION,
        place="section 3.3, figure 4; test score in section 3.5",
        source=source,
        model="unet",
        trainings=(Training("fcn8s", {"AUGMENTATION": "none"}, weights="imagenet"),),
        figures=figures(mAP=0.229, IoU=None),
        notes=(
            "The 12000 epochs of the text are steps of one image each; see the preset.",
            "Figure 4 draws IoU and mAP over the ten folds without numbers. " + _TEST,
            "Windows of 256 x 256 pixels are ours: the text trains on images of all sizes, unchanged (section 3.1). "
            "Predicted are whole images.",
            "The radius of the opening is not given; OPENING_RADIUS is 2 pixels.",
            "Augmentation is described for Mask R-CNN, instead of cross-validation (section 3.1): none here.",
        ),
    )


EXPERIMENTS = (
    _fcn(replace(DSB2018, folds=_FOLDS, held_out=tuple(range(1, _FOLDS + 1)))),
    _mask_rcnn(
        "no-augmentation",
        "256 RPN anchors, 200 RoIs, RPN NMS 0.7, without augmentation",
        "figure 6",
        "resnet101-two-stage",
        None,
        "Figure 6: better than with augmentation until about epoch 40, then overfitting.",
        _DRAWN,
        AUGMENTATION="none",
    ),
    _mask_rcnn(
        "anchors128",
        "128 RPN anchors, 200 RoIs, RPN NMS 0.7",
        "figure 8",
        "resnet101-two-stage-anchors128",
        None,
        "Figure 8: the lowest of the three, overfits from about epoch 115.",
        _DRAWN,
    ),
    _mask_rcnn(
        "anchors256",
        "256 RPN anchors, 200 RoIs, RPN NMS 0.7",
        "figures 6, 8 and 9",
        "resnet101-two-stage",
        None,
        "The base of all comparisons.",
        _DRAWN,
    ),
    _mask_rcnn(
        "anchors512",
        "512 RPN anchors, 200 RoIs, RPN NMS 0.7",
        "figure 8",
        "resnet101-two-stage-anchors512",
        None,
        "Figure 8: no worse than 256, steadier, and faster to converge.",
        _DRAWN,
    ),
    _mask_rcnn(
        "rois350",
        "256 RPN anchors, 350 RoIs, RPN NMS 0.7",
        "figure 9",
        "resnet101-two-stage-rois350",
        None,
        "Figure 9: a little lower than with 200 RoIs.",
        _DRAWN,
    ),
    _mask_rcnn(
        "rois350-nms05",
        "256 RPN anchors, 350 RoIs, RPN NMS 0.5",
        "figure 9",
        "resnet101-two-stage-rois350-nms05",
        None,
        "Figure 9: a lower threshold scores better. The thresholds drawn are not in the text; 0.5 is ours.",
        _DRAWN,
    ),
    _mask_rcnn(
        "final",
        "512 RPN anchors, 350 RoIs, RPN NMS 0.5",
        "section 3.5",
        "resnet101-two-stage-rois350-nms05",
        0.401,
        "Which settings the test score was reached with is not said: these are those that the sweeps speak for. "
        + _TEST,
        RPN_TRAIN_ANCHORS_PER_IMAGE=512,
    ),
)
