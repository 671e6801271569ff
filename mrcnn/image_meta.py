"""Images as inputs of the network, and the meta vector that describes each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrcnn.config import Config
from mrcnn.resizing import Padding, Window, resize_image
from trainkit.shapes import Shapes

# Height and width of a network's input are multiples of this.
_STRIDE = 64
# Columns of an image's meta vector before the flags of its classes.
_FIELDS = {
    "image_id": 0,
    "original_image_shape": slice(1, 4),
    "image_shape": slice(4, 7),
    "window": slice(7, 11),
    "scale": 11,
    "active_class_ids": slice(12, None),
}


def compose_image_meta(
    image_id: int,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int],
    scale: float,
    active_class_ids: Sequence[int],
) -> np.ndarray:
    """Packs the description of an image into one vector.

    Args:
        image_id: Index of the image in its dataset.
        original_image_shape: (height, width, channels) before resizing and padding.
        image_shape: (height, width, channels) afterwards.
        window: (y1, x1, y2, x2), the pixels of the resized image that are not padding.
        scale: Factor that the image was resized by.
        active_class_ids: One flag per class, 1 for those that the image's dataset annotates.

    Returns:
        float32 `[12 + classes]`, `Config.IMAGE_META_SIZE` values.
    """
    parts = ([image_id], original_image_shape, image_shape, window, [scale], active_class_ids)
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])


def parse_image_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """Unpacks meta vectors.

    Args:
        meta: `[batch, 12 + classes]`, from `compose_image_meta`.

    Returns:
        The arguments of `compose_image_meta` by name, each with a leading batch dimension: int32, but `scale` float32.
    """
    return {
        name: meta[:, columns].astype(np.float32 if name == "scale" else np.int32) for name, columns in _FIELDS.items()
    }


def parse_image_meta_graph(meta: Any) -> dict[str, Any]:
    """Unpacks meta tensors `[batch, 12 + classes]` of the Keras backend; the parts by name keep the dtype."""
    return {name: meta[:, columns] for name, columns in _FIELDS.items()}


def mold_image(images: np.ndarray, config: Config) -> np.ndarray:
    """Subtracts the mean colour.

    Args:
        images: `[..., H, W, C]`, RGB in 0..255.
        config: Uses MEAN_PIXEL.

    Returns:
        float32 of the same shape.
    """
    return np.subtract(images, np.asarray(config.MEAN_PIXEL, dtype=np.float32), dtype=np.float32)


def unmold_image(normalized_images: np.ndarray, config: Config) -> np.ndarray:
    """Adds the mean colour; the inverse of `mold_image`.

    Args:
        normalized_images: float `[..., H, W, C]`.
        config: Uses MEAN_PIXEL.

    Returns:
        uint8 of the same shape, rounded and clipped to 0..255.
    """
    restored = normalized_images + np.asarray(config.MEAN_PIXEL, dtype=np.float32)
    return np.clip(np.rint(restored), 0, 255).astype(np.uint8)


def resize_for_network(
    image: np.ndarray, config: Config, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, Window, float, Padding, tuple[int, int, int, int] | None]:
    """Resizes an image as the configuration's `IMAGE_` settings say; see `mrcnn.resizing.resize_image`.

    Args:
        image: `[H, W, C]`.
        config: Resize mode, sizes and scale.
        rng: Source of the place of a random crop; None takes Python's `random`.
    """
    sizes = (config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_MIN_SCALE)
    return resize_image(image, *sizes, config.IMAGE_RESIZE_MODE, rng=rng)


def mold_inputs(
    images: Sequence[np.ndarray], config: Config, shapes: Shapes | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resizes images and subtracts the mean colour: the network's inputs for detection.

    Args:
        images: `[H, W, C]` arrays, RGB in 0..255; sizes may differ where IMAGE_RESIZE_MODE makes them equal.
        config: Uses MEAN_PIXEL, NUM_CLASSES and the IMAGE_* settings.
        shapes: Rule by which the molded images are padded further with zeros, below and at the right; None for no more
            padding. The metas describe the images without it.

    Returns:
        molded_images: float32 `[batch, h, w, C]`.
        image_metas: float32 `[batch, 12 + classes]`, no class marked as active.
        windows: int32 `[batch, 4]`, (y1, x1, y2, x2), the pixels that are not padding.

    Raises:
        ValueError: IMAGE_RESIZE_MODE is "crop", or the resized images differ in size or do not suit the pyramid.
    """
    if config.IMAGE_RESIZE_MODE == "crop":
        raise ValueError(
            "IMAGE_RESIZE_MODE 'crop' takes a random part of each image and is for training only. "
            "Use 'square' or 'pad64' for detection."
        )
    resized, metas, windows = [], [], []
    inactive = np.zeros(config.NUM_CLASSES)
    for image in images:
        small, window, scale, _, _ = resize_for_network(image, config)
        resized.append(small)
        metas.append(compose_image_meta(0, image.shape, small.shape, window, scale, inactive))
        windows.append(window)
    if shapes is None:
        molded = [mold_image(small, config) for small in resized]
    else:
        molded = [_padded(mold_image(small, config), shapes) for small in resized]
    sizes = {image.shape for image in molded}
    if len(sizes) != 1:
        raise ValueError(
            f"The images of one batch must have one size after resizing (IMAGE_RESIZE_MODE "
            f"{config.IMAGE_RESIZE_MODE!r}). Received: shapes {sorted(sizes)}"
        )
    height, width = next(iter(sizes))[:2]
    if height % _STRIDE or width % _STRIDE:
        raise ValueError(
            f"With IMAGE_RESIZE_MODE {config.IMAGE_RESIZE_MODE!r} height and width must be multiples of 64, so that "
            f"the pyramid's levels fit on each other. Received: {height} x {width}. 'square' and 'pad64' take any size."
        )
    return np.stack(molded), np.stack(metas), np.asarray(windows, dtype=np.int32)


def _padded(molded: np.ndarray, shapes: Shapes) -> np.ndarray:
    """Adds zeros, the mean colour, as a convolution sees beyond the edge."""
    rows, columns = (shapes.side(side, _STRIDE) - side for side in molded.shape[:2])
    return np.pad(molded, ((0, rows), (0, columns), (0, 0)))


def image_extents(metas: np.ndarray) -> np.ndarray:
    """Returns the heights and widths in pixels in which the boxes of images are normalised.

    Args:
        metas: `[batch, 12 + classes]`, from `compose_image_meta`.

    Returns:
        int32 `[batch, 2]`.
    """
    return parse_image_meta(metas)["image_shape"][:, :2]
