"""Augmentation pipelines for nuclei, built from imgaug augmenters, which `trainkit.augmentation.augment_pair` applies.

imgaug takes seconds to import, so it is imported when a pipeline is built; `AUGMENTATIONS` can be listed without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nucleus.augmentation.stain_jitter import jitter_stains
from nucleus.images.preprocess import is_grey

if TYPE_CHECKING:
    from trainkit.imgaug_compat import iaa


def default_augmentation() -> iaa.Augmenter:
    """The pipeline of the nucleus sample of matterport's Mask_RCNN.

    None to two of: a left-right flip, an upside-down flip, a right-angle rotation, a brightness factor of 0.8 to 1.5, a
    Gaussian blur with a sigma of up to 5 pixels. Right-angle rotations are exact, without resampling, on square images;
    other images are rotated and then stretched to their original size.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

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
    """A richer pipeline for small training sets and for images unlike those of the training set.

    The pipeline of Rocha de Andrade ("Nuclei detection based on fully convolutional networks", 2018), section 5.1
    (`channel_augmentation`), with shifts and elastic deformation, and with blur, noise, brightness and contrast of what
    section 8 proposes; `aggressive_augmentation` has all of it. Every image is flipped and rotated by right angles at
    random; half of them are rotated freely, zoomed by 0.7 to 1.4, sheared and shifted; some are deformed elastically;
    contrast, brightness and the order of the colour channels vary; some images are blurred or get noise.

    Args:
        mirror: True to fill the area outside the original image with its mirror image, in the label image too,
            where a mirrored nucleus bears the number of the original: for models that take every connected region for
            a nucleus. By default it is one random colour, without labels.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

    shift = {axis: (-0.15, 0.15) for axis in ("x", "y")}
    fill = _fill(mirror)
    affine = iaa.Affine(rotate=(-45, 45), scale=(0.7, 1.4), shear=(-12, 12), translate_percent=shift, **fill)
    elastic = iaa.ElasticTransformation(alpha=(10, 40), sigma=5, **fill)
    _mirror_labels(mirror, affine, elastic)
    blur_or_noise = iaa.OneOf(
        [iaa.GaussianBlur(sigma=(0.5, 2.0)), iaa.AdditiveGaussianNoise(scale=(2, 12), per_channel=0.5)]
    )
    return iaa.Sequential(
        [
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
            iaa.Rot90((0, 3)),
            iaa.Sometimes(0.5, affine),
            iaa.Sometimes(0.2, elastic),
            iaa.Sometimes(0.5, iaa.LinearContrast((0.6, 1.5))),
            iaa.Sometimes(0.5, iaa.Multiply((0.7, 1.4))),
            iaa.Sometimes(0.1, iaa.ChannelShuffle(1.0)),
            iaa.Sometimes(0.3, blur_or_noise),
        ]
    )


def aggressive_augmentation(mirror: bool = False) -> iaa.Augmenter:
    """`strong_augmentation`, and the rest of what Rocha de Andrade proposes in section 8.

    That is pixel dropout, emboss, piecewise affine and perspective transforms. The author had not tried them and gives
    no ranges. Ours: a fifth of the images is deformed by one of the transforms, another fifth loses up to a twentieth
    of its pixels or is embossed by up to a half.

    Args:
        mirror: True to fill the area outside the original image with its mirror image; see `strong_augmentation`.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

    piecewise = iaa.PiecewiseAffine(scale=(0.01, 0.03), **_fill(mirror))
    _mirror_labels(mirror, piecewise)
    # It looks at a part of the image, stretched to its size, so that nothing comes from outside.
    perspective = iaa.PerspectiveTransform(scale=(0.02, 0.08), keep_size=True)
    pixels = iaa.OneOf([iaa.Dropout(p=(0.0, 0.05)), iaa.Emboss(alpha=(0.0, 0.5), strength=(0.5, 1.5))])
    return iaa.Sequential(
        [
            strong_augmentation(mirror),
            iaa.Sometimes(0.2, iaa.OneOf([piecewise, perspective])),
            iaa.Sometimes(0.2, pixels),
        ]
    )


def gentle_augmentation(mirror: bool = False) -> iaa.Augmenter:
    """Flips, rotations, shifts and scaling, and nothing else.

    Vuola ("Nuclei segmentation using computer vision", 2019, section 4.4.1) found it to segment better than heavier
    augmentation; its crops come with IMAGE_MODE or IMAGE_RESIZE_MODE "crop". The thesis gives no ranges. Ours: right
    angles, and for half of the images any angle up to 45 degrees, a shift of up to a tenth and a zoom of 0.8 to 1.25.

    Args:
        mirror: True to fill the area outside the original image with its mirror image; see `strong_augmentation`.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

    shift = {axis: (-0.1, 0.1) for axis in ("x", "y")}
    affine = iaa.Affine(rotate=(-45, 45), scale=(0.8, 1.25), translate_percent=shift, **_fill(mirror))
    _mirror_labels(mirror, affine)
    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3)), iaa.Sometimes(0.5, affine)])


def channel_augmentation(mirror: bool = False) -> iaa.Augmenter:
    """Flips, rotations, zoom, shear and channel shuffle, and nothing else.

    The training of Rocha de Andrade ("Nuclei detection based on fully convolutional networks", 2018, section 5.1),
    which gives no ranges. Ours: right angles; for half of the images any angle up to 45 degrees, a zoom of 0.7 to 1.4
    and a shear of up to 12 degrees; and for half of them another order of the colour channels.

    Args:
        mirror: True to fill the area outside the original image with its mirror image; see `strong_augmentation`.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

    affine = iaa.Affine(rotate=(-45, 45), scale=(0.7, 1.4), shear=(-12, 12), **_fill(mirror))
    _mirror_labels(mirror, affine)
    return iaa.Sequential(
        [iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3)), iaa.Sometimes(0.5, affine), iaa.ChannelShuffle(0.5)]
    )


def crop_augmentation() -> iaa.Augmenter:
    """Flips and random crops, each for half of the images; crops are resized to the original size.

    Section 3 of Lehmann, Agarwal and Lund ("Semantic segmentation of cells from clinical images using deep learning",
    2020), which does not give the size of the crops. Ours: up to an eighth is cut off at every side.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

    crop = iaa.CropAndPad(percent=(-0.125, 0))
    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Sometimes(0.5, crop)])


def rotation_augmentation() -> iaa.Augmenter:
    """Flips and right-angle rotations, without resampling on square images.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3))])


def brightness_augmentation() -> iaa.Augmenter:
    """Flips and a brightness factor of 0.8 to 1.2: Zhang, Wei and Yue, section 3.1.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Multiply((0.8, 1.2))])


def microscopy_augmentation() -> iaa.Augmenter:
    """Flips, right angles, and what differs between microscopes and laboratories: for several kinds of images at once.

    Some images are inverted, turned to grey or given another order of their colour channels, so that a dark nucleus on
    bright ground and a bright one on dark ground are learned from both; sections have their stains varied
    (`nucleus.augmentation.stain_jitter`); gain, offset and gamma vary, and some images are blurred or get noise. Free
    angles and scales come with CROP_SCALES and CROP_ROTATION.

    Returns:
        An augmenter for uint8 `[H, W, 3]` RGB images that keeps an image's size.
    """
    from trainkit.imgaug_compat import iaa

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


# Value of the setting AUGMENTATION -> pipeline, a function of `mirror`.
AUGMENTATIONS: dict[str, Callable[[bool], iaa.Augmenter | None]] = {
    "none": lambda mirror: None,
    "lineage": lambda mirror: default_augmentation(),
    "strong": strong_augmentation,
    "aggressive": aggressive_augmentation,
    "gentle": gentle_augmentation,
    "flips-rotations": lambda mirror: rotation_augmentation(),
    "flips-brightness": lambda mirror: brightness_augmentation(),
    "flips-crops": lambda mirror: crop_augmentation(),
    "affine-channels": channel_augmentation,
    "microscopy": lambda mirror: microscopy_augmentation(),
}


def make_augmentation(name: str, mirror: bool = False) -> iaa.Augmenter | None:
    """Builds the augmenter of a value of the setting AUGMENTATION.

    Examples:
        >>> from nucleus.datasets.dataset import NucleusDataset, shipped_data
        >>> from trainkit.augmentation import augment_pair
        >>> dataset = NucleusDataset()
        >>> dataset.load_nucleus(shipped_data(), "val")
        >>> dataset.prepare()
        >>> image, (labels, _) = dataset.load_image(0), dataset.load_labels(0)
        >>> augmented, moved = augment_pair(make_augmentation("gentle"), image, labels, seed=3)
        >>> augmented.shape == image.shape, moved.shape == labels.shape
        (True, True)

    Args:
        name: A key of `AUGMENTATIONS`: "lineage" (matterport's nucleus sample), "strong", "aggressive" (what Rocha de
            Andrade proposes), "flips-rotations" (the MLP report), "flips-brightness" (Zhang, Wei and Yue, section 3.1),
            "gentle" (Vuola), "flips-crops" (Lehmann, Agarwal and Lund), "affine-channels" (Rocha de Andrade),
            "microscopy" (several kinds of images at once), or "none".
        mirror: True to fill the area outside the original image with its mirror image; see `strong_augmentation`.

    Returns:
        An imgaug augmenter, or None for "none".

    Raises:
        ValueError: The name is unknown.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"Expected an augmentation of {', '.join(AUGMENTATIONS)}. Received: {name!r}")
    return AUGMENTATIONS[name](mirror)


def _jitter_stains(images: Any, random_state: Any, parents: Any, hooks: Any) -> Any:
    """Varies the stains of images in colour, for `iaa.Lambda`."""
    rng = np.random.default_rng(random_state.generate_seed_())
    return [image if is_grey(image) else jitter_stains(image, rng) for image in images]


def _fill(mirror: bool) -> dict[str, Any]:
    """Returns imgaug's arguments for the pixels that come from outside the original image."""
    return {"mode": "reflect"} if mirror else {"cval": (0, 255)}


def _mirror_labels(mirror: bool, *augmenters: iaa.Augmenter) -> None:
    """Mirrors the label image too: imgaug fills it with background and has no argument to change that."""
    for augmenter in augmenters if mirror else ():
        augmenter._mode_segmentation_maps = "reflect"
