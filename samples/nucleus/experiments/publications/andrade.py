"""Tables 1 and 2 and the final model of Rocha de Andrade: losses, and networks with three channels."""

from __future__ import annotations

from typing import Any

from nucleus.experiments.publications.experiment import Citation, Experiment, Training, figures
from nucleus.experiments.publications.sources import DSB2018

CITATION = Citation(
    "Eduardo Rocha de Andrade", "Nuclei detection based on Fully Convolutional Networks", "UNICAMP, 2018"
)
_SETTINGS = {
    # Section 5.1. Blur, noise, brightness and contrast, which `strong` has too, were not tried (section 8).
    "AUGMENTATION": "affine-channels",
    # Section 6 scores images resized as in training; so does the final model, by mistake (section 7).
    "INFERENCE_MODE": "resize",
    # Section 5.3.1 has the watershed and nothing after it.
    "FILL_HOLES": False,
}
_COMMON = (
    "Batch size and widths of the decoder are not given: see the preset. Nor are ranges of the rotations, zoom and "
    "shear of section 5.1, and how often channels are shuffled: those are ours.",
    "What becomes of a component of the mask without a marker is not said: it stays a nucleus here.",
    "Published is the score on the contest's second test set of 3,019 images; without --test the customary 25 "
    "validation images are scored.",
)


def _row(
    name: str, summary: str, place: str, preset: str, mean_ap: float, *notes: str, weights: str, **settings: Any
) -> Experiment:
    return Experiment(
        name=f"andrade-{name}",
        summary=summary,
        citation=CITATION,
        place=place,
        source=DSB2018,
        model="unet",
        trainings=(Training(preset, {**_SETTINGS, **settings}, weights),),
        figures=figures(mAP=mean_ap),
        notes=(*notes, *_COMMON),
    )


def _loss(name: str, loss: str, mean_ap: float) -> Experiment:
    return _row(
        f"loss-{name}",
        f"U-Net, Xception encoder, loss {loss}",
        f"table 1, {name}",
        "xception",
        mean_ap,
        "Section 6.1 trains 20 epochs at 0.001 in one stage. Whether its networks have three channels, as those of "
        "table 2, it does not say: they have here, since section 5.5 argues with the touching borders.",
        weights="imagenet",
        LOSS=loss,
        STAGES=(("all", 20, 0.001),),
    )


def _architecture(name: str, summary: str, preset: str, mean_ap: float, weights: str) -> Experiment:
    return _row(
        name,
        f"{summary}, three channels, watershed",
        f"table 2, {name}",
        preset,
        mean_ap,
        "Adam; the learning rate loses a quarter every three epochs (section 6).",
        weights=weights,
    )


EXPERIMENTS = (
    _loss("cross-entropy", "bce", 0.358),
    _loss("soft-dice", "dice", 0.320),
    _loss("combined", "bce-dice", 0.361),
    _architecture("plain", "U-Net with batch normalisation", "plain-bn", 0.273, "none"),
    _architecture("xception", "U-Net, Xception encoder", "xception", 0.322, "imagenet"),
    _architecture(
        "xception-inceptionse",
        "U-Net, Xception encoder, Inception/SE decoder",
        "xception-inceptionse",
        0.420,
        "imagenet",
    ),
    _row(
        "final",
        "U-Net, Xception encoder, Inception/SE decoder, trained on more images",
        "section 7",
        "xception-inceptionse",
        0.469,
        "Trained on the author's V9, about 3,000 crops of 256 x 256 from three data sets (Kaggle, TCGA, Cell "
        "Tracking), which does not come with the paper: --dataset takes any folder of crops with masks; by default it "
        "is the images of the 2018 Data Science Bowl alone.",
        weights="imagenet",
    ),
)
