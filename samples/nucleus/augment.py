"""Augmentation recipes for nuclei: imgaug augmenters for `MaskRCNN.train(augmentation=...)` and `augment_pair`."""

from __future__ import annotations

from typing import Any

import numpy as np

from nucleus.preprocess import is_grey
from nucleus.stain_jitter import jitter_stains
from trainkit.imgaug_compat import iaa


def default_augmentation() -> iaa.Augmenter:
    """The recipe of the nucleus sample of matterport's Mask_RCNN.

    None to two of: a left-right flip, an upside-down flip, a right-angle rotation, a brightness factor of 0.8 to
    1.5, a Gaussian blur of up to 5 pixels. Right angles are turned exactly, without resampling, on square images;
    an image that is not square is turned and then stretched to the size it had.

    Returns:
        An augmenter for uint8 RGB images that keeps an image's size.
    """
    return iaa.SomeOf(
        (0, 2),
        [
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
            iaa.Rot90((1, 3)),
            iaa.Multiply((0.8, 1.5)),
            iaa.GaussianBlur(sigma=(0.0, 5.0)),
        ],
    )


def strong_augmentation(mirror: bool = False) -> iaa.Augmenter:
    """A richer recipe for small training sets and for images unlike those trained on.

    What Rocha de Andrade ("Nuclei detection based on fully convolutional networks") trained with, section 5.1
    (`channel_augmentation`), and would have added, section 8. Every image is flipped and turned by right angles at
    random; half of them are rotated freely, zoomed by 0.7 to 1.4, sheared and shifted; some are bent elastically;
    contrast, brightness and the order of the colour channels vary; some images are blurred or get noise.

    Args:
        mirror: What is brought in from outside is the mirror image, in the label image too, where a mirrored nucleus
            bears the number of the original: for models that take every connected region for a nucleus. By default
            it is one random colour, without labels.

    Returns:
        An augmenter for uint8 RGB images that keeps an image's size.
    """
    shift = {axis: (-0.15, 0.15) for axis in ("x", "y")}
    fill = _fill(mirror)
    moved = iaa.Affine(rotate=(-45, 45), scale=(0.7, 1.4), shear=(-12, 12), translate_percent=shift, **fill)
    bent = iaa.ElasticTransformation(alpha=(10, 40), sigma=5, **fill)
    _mirror_labels(mirror, moved, bent)
    return iaa.Sequential(
        [
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
            iaa.Rot90((0, 3)),
            iaa.Sometimes(0.5, moved),
            iaa.Sometimes(0.2, bent),
            iaa.Sometimes(0.5, iaa.LinearContrast((0.6, 1.5))),
            iaa.Sometimes(0.5, iaa.Multiply((0.7, 1.4))),
            iaa.Sometimes(0.1, iaa.ChannelShuffle(1.0)),
            iaa.Sometimes(
                0.3,
                iaa.OneOf(
                    [
                        iaa.GaussianBlur(sigma=(0.5, 2.0)),
                        iaa.AdditiveGaussianNoise(scale=(2, 12), per_channel=0.5),
                    ]
                ),
            ),
        ]
    )


def gentle_augmentation(mirror: bool = False) -> iaa.Augmenter:
    """Flips, rotations, shifts and scaling, and nothing else.

    What Vuola ("Nuclei segmentation using computer vision", 2019, section 4.4.1) found to segment better than heavier
    augmentation; crops come with IMAGE_MODE or IMAGE_RESIZE_MODE "crop". The thesis gives no ranges: right angles, and
    for half of the images any angle, a shift of up to a tenth and a zoom of 0.8 to 1.25 are ours.

    Args:
        mirror: See `strong_augmentation`.

    Returns:
        An augmenter for uint8 RGB images that keeps an image's size.
    """
    shift = {axis: (-0.1, 0.1) for axis in ("x", "y")}
    moved = iaa.Affine(rotate=(-45, 45), scale=(0.8, 1.25), translate_percent=shift, **_fill(mirror))
    _mirror_labels(mirror, moved)
    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3)), iaa.Sometimes(0.5, moved)])


def channel_augmentation(mirror: bool = False) -> iaa.Augmenter:
    """Flips, rotations, zoom, shear and channel shuffle, and nothing else.

    What Rocha de Andrade ("Nuclei detection based on fully convolutional networks", 2018, section 5.1) trained with,
    which gives no ranges: right angles, and for half of the images any angle up to 45 degrees, a zoom of 0.7 to 1.4 and
    a shear of up to 12 degrees, and for half of them another order of the colour channels are ours.

    Args:
        mirror: See `strong_augmentation`.

    Returns:
        An augmenter for uint8 RGB images that keeps an image's size.
    """
    moved = iaa.Affine(rotate=(-45, 45), scale=(0.7, 1.4), shear=(-12, 12), **_fill(mirror))
    _mirror_labels(mirror, moved)
    return iaa.Sequential(
        [
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
            iaa.Rot90((0, 3)),
            iaa.Sometimes(0.5, moved),
            iaa.ChannelShuffle(0.5),
        ]
    )


def crop_augmentation() -> iaa.Augmenter:
    """Flips and random crops, each for half of the images, brought back to the size that the image had.

    Section 3 of Lehmann, Agarwal and Lund ("Semantic segmentation of cells from clinical images using deep learning",
    2020), which does not say how much is cut off: up to an eighth at every side is ours.

    Returns:
        An augmenter for uint8 RGB images that keeps an image's size.
    """
    crop = iaa.CropAndPad(percent=(-0.125, 0))
    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Sometimes(0.5, crop)])


def microscopy_augmentation() -> iaa.Augmenter:
    """Flips, right angles, and what differs between microscopes and laboratories: for several kinds of images at once.

    Some images are inverted, turned to grey or given another order of their colour channels, so that a dark nucleus on
    bright ground and a bright one on dark ground are learned from both; sections have their stains varied
    (`nucleus.stain_jitter`); gain, offset and gamma vary, and some images are blurred or get noise. Free angles and
    scales come with CROP_SCALES and CROP_ROTATION.

    Returns:
        An augmenter for uint8 RGB images that keeps an image's size.
    """
    return iaa.Sequential(
        [
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
            iaa.Rot90((0, 3)),
            iaa.Sometimes(0.7, iaa.Lambda(func_images=_jitter_stains)),
            iaa.Sometimes(0.1, iaa.Grayscale(1.0)),
            iaa.Sometimes(0.1, iaa.ChannelShuffle(1.0)),
            iaa.Sometimes(0.15, iaa.Invert(1.0)),
            iaa.Sometimes(0.5, iaa.GammaContrast((0.6, 1.6))),
            iaa.Sometimes(0.5, iaa.Sequential([iaa.Multiply((0.6, 1.4)), iaa.Add((-20, 20))])),
            iaa.Sometimes(
                0.35,
                iaa.OneOf(
                    [iaa.GaussianBlur(sigma=(0.4, 1.8)), iaa.AdditiveGaussianNoise(scale=(2, 14), per_channel=0.3)]
                ),
            ),
        ]
    )


def make_augmentation(name: str, mirror: bool = False) -> iaa.Augmenter | None:
    """Returns the augmenter of a value of AUGMENTATION.

    Args:
        name: "lineage" (matterport's nucleus sample), "strong", "flips-rotations" (right angles; the MLP report),
            "flips-brightness" (Zhang, Wei and Yue, section 3.1), "gentle" (Vuola), "flips-crops" (Lehmann, Agarwal
            and Lund), "affine-channels" (Rocha de Andrade), "microscopy" (several kinds of images at once), or "none".
        mirror: See `strong_augmentation`.

    Returns:
        An imgaug augmenter, or None for "none".
    """
    recipes = {
        "none": lambda: None,
        "lineage": default_augmentation,
        "strong": lambda: strong_augmentation(mirror),
        "gentle": lambda: gentle_augmentation(mirror),
        "flips-crops": crop_augmentation,
        "affine-channels": lambda: channel_augmentation(mirror),
        "microscopy": microscopy_augmentation,
        "flips-rotations": lambda: iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3))]),
        "flips-brightness": lambda: iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Multiply((0.8, 1.2))]),
    }
    return recipes[name]()


def _jitter_stains(images: Any, random_state: Any, parents: Any, hooks: Any) -> Any:
    """Varies the stains of images in colour, for `iaa.Lambda`."""
    rng = np.random.default_rng(random_state.generate_seed_())
    return [image if is_grey(image) else jitter_stains(image, rng) for image in images]


def _fill(mirror: bool) -> dict[str, Any]:
    """Returns what an augmenter that moves an image brings in from outside."""
    return {"mode": "reflect"} if mirror else {"cval": (0, 255)}


def _mirror_labels(mirror: bool, *augmenters: iaa.Augmenter) -> None:
    """Lets the label image be mirrored too: imgaug fills it with background and has no argument for it."""
    for augmenter in augmenters if mirror else ():
        augmenter._mode_segmentation_maps = "reflect"
