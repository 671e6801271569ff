"""Figure 5 of Lehmann, Agarwal and Lund: a U-Net and a Mask R-CNN on the glands of the GlaS challenge."""

from __future__ import annotations

from dataclasses import replace

from nucleus.experiments.publications.experiment import PREVIOUS, Citation, Experiment, Figure, Training, figures
from nucleus.experiments.publications.sources import GLAS

CITATION = Citation(
    "Mikkel Lehmann, Sameer Agarwal, Nicklas Lund",
    "Semantic segmentation of cells from clinical images using deep learning",
    "Course project 02456, Technical University of Denmark (DTU), 2020",
)
# Flips and crops at random.
_AUGMENTATION = {"AUGMENTATION": "flips-crops"}
_COMMON = (
    "Validation images are not told apart in the paper: a fifth of the training part is set aside for the losses.",
    "Sizes and distances are measured in the pixels of the original images, as the challenge does.",
    "The rank sum is that among the twelve published rows of figure 5, to which this run is the thirteenth.",
    "No post-processing (section 7).",
)


def _glas(*values: tuple[float, ...]) -> tuple[Figure, ...]:
    """Returns F1, object Dice, object Hausdorff, BCE and count ratio on the two test parts."""
    names = ("object_F1", "object_Dice", "object_Hausdorff", "BCE", "count_ratio")
    return tuple(
        figure
        for part, row in zip("AB", values, strict=True)
        for figure in figures(part, **dict(zip(names, row, strict=True)))
    )


EXPERIMENTS = (
    Experiment(
        name="lehmann-unet",
        summary="the U-Net of 2015 on GlaS: SGD for 900 epochs, then Adam for 50",
        citation=CITATION,
        place="figure 5, DTU-UNET",
        source=replace(GLAS, fit=512),
        model="unet",
        trainings=(
            Training("original", _AUGMENTATION),
            Training("original-tuned", _AUGMENTATION, weights=PREVIOUS),
        ),
        figures=(
            *_glas((0.822, 0.723, 126.685, 0.403, 0.211), (0.862, 0.791, 138.294, 0.380, 0.127)),
            Figure("rank_sum", 38),
        ),
        notes=(
            "Images are scaled into 512 x 512 with their aspect ratio (section 3); what the network finds is brought "
            "back to the size of the original.",
            "The images were normalised (section 5.3), it is not said how: pixels are brought to 0..1 here, neither "
            "centred nor divided by their deviation.",
            "BCE is the cross-entropy of the pixels' probabilities, mean over images.",
            "The learning rates were found by a random search of 50 trials and a narrower one of 50 more, 20 epochs "
            "each (section 5.3): `nucleus search` does the same.",
            *_COMMON,
        ),
    ),
    Experiment(
        name="lehmann-mask-rcnn",
        summary="Mask R-CNN with ResNet-50-FPN from COCO on GlaS, SGD for 500 epochs",
        citation=CITATION,
        place="figure 5, DTU-MASKRCNN",
        source=GLAS,
        model="mask_rcnn",
        trainings=(Training("resnet50-glas", _AUGMENTATION, weights="coco"),),
        figures=(
            *_glas((0.922, 0.905, 37.529, 0.540, 0.825), (0.906, 0.872, 74.287, 0.540, 0.842)),
            Figure("rank_sum", 6),
        ),
        notes=(
            "The figure leaves the rank sum blank; first on all six scores, as the text says, makes six.",
            "Its BCE is that of masks that were made binary before, which is infinite where one is wrong; how it "
            "became 0.54 is not said, so none is measured here.",
            "The paper considers only the mask loss in training and evaluation; without the other losses nothing would "
            "be proposed, so all are trained here.",
            "The networks for classification and masks begin untrained (section 6.3). Here only their last layers do, "
            "whose shape goes with the number of classes, as in the samples of the public implementation (matterport).",
            "The public COCO weights are those of a ResNet-101: layers of the same name begin with them.",
            *_COMMON,
        ),
    ),
)
