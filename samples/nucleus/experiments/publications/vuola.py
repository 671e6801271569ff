"""Tables 5.1 and 5.2 of Vuola's thesis: U-Nets and Mask R-CNNs with two strengths of augmentation, in four folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nucleus.experiments.publications.experiment import Citation, Experiment, Figure, Training, figures
from nucleus.experiments.publications.sources import DSB2018

CITATION = Citation(
    "Aarno Oskar Vuola", "Nuclei Segmentation Using Computer Vision", "Master's thesis, Aalto University, 2019"
)
_FOUR_FOLDS = replace(DSB2018, folds=4, held_out=(1, 2, 3, 4))
# Section 4.4.1: flips, rotations, crops, shifts and scaling ("gentle"); in table 5.2 marked HC: heavier ones too.
_AUGMENTATIONS = {"gentle": "gentle", "hc": "strong"}
# Section 4.4.1 transfers contrast between histology images, without saying how often or by which method.
_COLOUR_TRANSFER = 0.5
# Section 4.4.1 as well; the scales are ours, the thesis does not give them.
_VIEWS = {"TEST_TIME_AUGMENTATION": "flips", "TEST_TIME_SCALES": (0.8, 1.0, 1.25)}
# A frozen encoder of random weights would teach the decoder nothing: all layers learn from the start.
_FROM_RANDOM = {"ENCODER_WEIGHTS": None, "STAGES": (("all", 5, 0.001), ("all", 15, 0.0001))}
_METRICS = ("mAP", "Dice", "precision", "recall", "oseg", "useg")
_COMMON = (
    "Folds are stratified by modality, which the thesis finds by clustering (section 4.4.2); where a data set does not "
    "say it, `nucleus modality` does that here.",
    "Measured is every image by the model that was not trained on it; published is a test set, predicted by the four "
    "models together, as --test does.",
    "The thesis adds images of five other sources to those of the contest, and does not say which are tested on.",
    "Learning rates, epochs, batches and widths are not given: see the preset. How often colours are transferred "
    "between histology images is not given either: half of the time here, by Reinhard's method.",
    "Section 4.4.1 averages predictions over flips, crops and scales of an image, and does not give the scales: here "
    "over four flips at 0.8, 1 and 1.25 of its size, without crops. Instances of Mask R-CNN vote instead.",
    "Over- and under-segmentation are numbers of errors in all images together, so they grow with their number.",
)
_HC = (
    "What the more advanced augmentations marked HC are is not said; section 4.4.1 names shearing, CLAHE, elastic "
    "deformation and noise as tried. Here it is `strong`: flips, rotations, zoom, shear, shifts, elastic deformation, "
    "contrast, brightness, channel shuffle, blur and noise.",
)


def _notes(augmentation: str) -> tuple[str, ...]:
    return (*(_HC if augmentation == "hc" else ()), *_COMMON)


def _figures(part: str, *values: float) -> tuple[Figure, ...]:
    return figures(part, **dict(zip(_METRICS, values, strict=True)))


def _unet(
    name: str, row: str, augmentation: str, encoder: str, pretrained: bool, *values: float, fpn: bool = False
) -> Experiment:
    settings: dict[str, Any] = {
        "ENCODER": encoder,
        "DECODER": "fpn" if fpn else "plain",
        "AUGMENTATION": _AUGMENTATIONS[augmentation],
        "COLOUR_TRANSFER": _COLOUR_TRANSFER,
    }
    if not pretrained:
        settings |= _FROM_RANDOM
    return Experiment(
        name=f"vuola-unet-{augmentation}-{name}",
        summary=f"U-Net, {encoder} encoder{' from ImageNet' if pretrained else ''}"
        f"{', FPN decoder' if fpn else ''}, {augmentation} augmentation",
        citation=CITATION,
        place=f"table 5.2, U-net {augmentation} augmentations, {row}",
        source=_FOUR_FOLDS,
        model="unet",
        # The presets of the thesis differ in the encoder alone, and a plain one has no preset.
        trainings=(Training("resnet50", settings, "imagenet" if pretrained else "none"),),
        figures=_figures("", *values),
        notes=_notes(augmentation),
        inference=_VIEWS,
    )


def _mask_rcnn(name: str, row: str, augmentation: str, backbone: str, *values: float) -> Experiment:
    settings = {
        "BACKBONE": backbone,
        "OVERLAP_RULE": "nearest-centroid",
        "MIN_AREA": 10,
        "FILL_HOLES": True,
        "AUGMENTATION": _AUGMENTATIONS[augmentation],
        "COLOUR_TRANSFER": _COLOUR_TRANSFER,
    }
    return Experiment(
        name=f"vuola-mask-rcnn-{augmentation}-{name}",
        summary=f"Mask R-CNN, {backbone} from ImageNet, {augmentation} augmentation",
        citation=CITATION,
        place=f"table 5.2, Mask-RCNN, {row}",
        source=_FOUR_FOLDS,
        model="mask_rcnn",
        trainings=(Training("lineage", settings, "imagenet"),),
        figures=_figures("", *values),
        notes=(
            "Which anchors, sizes and stages were used is not said: those of the lineage's nucleus sample.",
            *_notes(augmentation),
        ),
        inference=_VIEWS,
    )


def _with_parts(row: Experiment, fluorescence: tuple[float, ...], histology: tuple[float, ...]) -> Experiment:
    """Adds what table 5.1 says by modality of a row of table 5.2."""
    return replace(
        row,
        place=f"table 5.1, and {row.place}",
        figures=(*row.figures, *_figures("fluorescence", *fluorescence), *_figures("histology", *histology)),
    )


def _ensemble(rows: Sequence[Experiment], *members: str) -> Experiment:
    """Returns the ensemble of table 5.1, of rows of table 5.2."""
    by_name = {row.name: row for row in rows}
    return Experiment(
        name="vuola-ensemble",
        summary="boosted trees choose among the nuclei of the U-Net and the Mask R-CNN of table 5.1",
        citation=CITATION,
        place="table 5.1, Ensemble",
        source=_FOUR_FOLDS,
        model="ensemble",
        trainings=(),
        figures=(
            *_figures("", 0.523, 0.659, 0.725, 0.607, 27, 328),
            *_figures("fluorescence", 0.570, 0.703, 0.767, 0.664, 23, 266),
            *_figures("histology", 0.316, 0.289, 0.586, 0.442, 4, 62),
            *figures(picked_mask_rcnn=0.59, picked_unet=0.41),
        ),
        notes=(
            "Features are structural properties of the masks; least predicted IoU and suppression are at 0.3 (section "
            "4.3).",
            "The members' trainings are those of their own rows: what these have trained in the same output folder is "
            "used.",
            "Each image is scored by trees that were grown on the other folds; a test set by trees that were grown on "
            "all, from what the four networks of each member find together.",
            *_COMMON,
        ),
        members=tuple(by_name[name] for name in members),
    )


_ROWS = (
    _unet("plain", "U-net", "hc", "plain", False, 0.488, 0.670, 0.633, 0.577, 79, 206),
    _unet("plain-fpn", "U-net & FPN", "hc", "plain", False, 0.483, 0.659, 0.625, 0.562, 80, 193, fpn=True),
    _unet("pretrained-resnet50", "Pretrained Resnet50", "hc", "resnet50", True, 0.496, 0.666, 0.621, 0.559, 112, 161),
    _unet(
        "pretrained-resnet50-fpn",
        "Pretrained Resnet50 & FPN",
        "hc",
        "resnet50",
        True,
        *(0.494, 0.658, 0.621, 0.548, 101, 172),
        fpn=True,
    ),
    _unet(
        "pretrained-resnet101", "Pretrained Resnet101", "hc", "resnet101", True, 0.458, 0.667, 0.601, 0.563, 191, 163
    ),
    _unet(
        "pretrained-resnet152", "Pretrained Resnet152", "hc", "resnet152", True, 0.481, 0.674, 0.647, 0.582, 129, 173
    ),
    _unet("resnet152", "Resnet152", "hc", "resnet152", False, 0.443, 0.615, 0.610, 0.518, 131, 263),
    _unet("resnet101", "Resnet101", "hc", "resnet101", False, 0.432, 0.684, 0.617, 0.601, 154, 281),
    _unet("resnet50", "Resnet50", "hc", "resnet50", False, 0.451, 0.655, 0.605, 0.551, 158, 202),
    _unet("plain", "Basic", "gentle", "plain", False, 0.485, 0.616, 0.635, 0.526, 45, 464),
    _unet("plain-fpn", "Basic & FPN", "gentle", "plain", False, 0.481, 0.596, 0.628, 0.504, 37, 489, fpn=True),
    _unet("resnet50", "Resnet50", "gentle", "resnet50", False, 0.512, 0.668, 0.664, 0.574, 60, 345),
    _unet("resnet101", "Resnet101", "gentle", "resnet101", False, 0.463, 0.617, 0.654, 0.539, 46, 562),
    _unet(
        "pretrained-resnet50", "Pretrained Resnet50", "gentle", "resnet50", True, 0.501, 0.727, 0.653, 0.547, 43, 363
    ),
    _with_parts(
        _unet(
            "pretrained-resnet101",
            "Pretrained Resnet100",
            "gentle",
            "resnet101",
            True,
            *(0.515, 0.660, 0.680, 0.577, 52, 383),
        ),
        fluorescence=(0.564, 0.708, 0.733, 0.643, 38, 301),
        histology=(0.298, 0.285, 0.502, 0.385, 14, 82),
    ),
    _mask_rcnn("resnet50", "Resnet50", "gentle", "resnet50", 0.517, 0.618, 0.787, 0.581, 13, 178),
    _mask_rcnn("resnet50", "Resnet50 & HC aug", "hc", "resnet50", 0.516, 0.594, 0.817, 0.575, 10, 215),
    _with_parts(
        _mask_rcnn("resnet101", "Resnet100", "gentle", "resnet101", 0.519, 0.617, 0.812, 0.596, 14, 164),
        fluorescence=(0.569, 0.684, 0.841, 0.663, 13, 132),
        histology=(0.300, 0.236, 0.698, 0.405, 1, 32),
    ),
    _mask_rcnn("resnet101", "Resnet100 & HC aug", "hc", "resnet101", 0.513, 0.577, 0.820, 0.561, 13, 209),
)
EXPERIMENTS = (
    *_ROWS,
    _ensemble(_ROWS, "vuola-unet-gentle-pretrained-resnet101", "vuola-mask-rcnn-gentle-resnet101"),
)
